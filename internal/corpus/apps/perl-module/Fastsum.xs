#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"

MODULE = Fastsum  PACKAGE = Fastsum

double
total(...)
  CODE:
    RETVAL = 0;
    for (int i = 0; i < items; i++)
        RETVAL += SvNV(ST(i));
  OUTPUT:
    RETVAL
