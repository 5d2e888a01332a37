#include "php.h"

ZEND_BEGIN_ARG_INFO_EX(arginfo_fastsum, 0, 0, 1)
	ZEND_ARG_INFO(0, numbers)
ZEND_END_ARG_INFO()

PHP_FUNCTION(fastsum)
{
	zval *numbers, *number;
	double sum = 0;
	if (zend_parse_parameters(ZEND_NUM_ARGS(), "a", &numbers) == FAILURE)
		return;
	ZEND_HASH_FOREACH_VAL(Z_ARRVAL_P(numbers), number) {
		sum += zval_get_double(number);
	} ZEND_HASH_FOREACH_END();
	RETURN_DOUBLE(sum);
}

static const zend_function_entry functions[] = {PHP_FE(fastsum, arginfo_fastsum) PHP_FE_END};

zend_module_entry fastsum_module_entry = {
	STANDARD_MODULE_HEADER, "fastsum", functions, NULL, NULL, NULL, NULL, NULL, "1.0", STANDARD_MODULE_PROPERTIES
};

ZEND_GET_MODULE(fastsum)
