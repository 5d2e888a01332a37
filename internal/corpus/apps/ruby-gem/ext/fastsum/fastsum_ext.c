#include <ruby.h>

static VALUE total(VALUE self, VALUE list)
{
	double sum = 0;
	for (long i = 0; i < RARRAY_LEN(list); i++)
		sum += NUM2DBL(rb_ary_entry(list, i));
	return DBL2NUM(sum);
}

void Init_fastsum_ext(void) { rb_define_module_function(rb_define_module("Fastsum"), "total", total, 1); }
