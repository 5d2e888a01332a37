PHP_ARG_ENABLE([fastsum], [whether to enable fastsum], [AS_HELP_STRING([--enable-fastsum])], [yes])
PHP_NEW_EXTENSION([fastsum], [fastsum.c], [$ext_shared])
