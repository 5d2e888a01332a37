#include <node_api.h>

static napi_value total(napi_env env, napi_callback_info info)
{
	napi_value list, item, result;
	size_t argc = 1;
	uint32_t n;
	double x, sum = 0;
	napi_get_cb_info(env, info, &argc, &list, NULL, NULL);
	napi_get_array_length(env, list, &n);
	for (uint32_t i = 0; i < n; i++) {
		napi_get_element(env, list, i, &item);
		napi_get_value_double(env, item, &x);
		sum += x;
	}
	napi_create_double(env, sum, &result);
	return result;
}

NAPI_MODULE_INIT()
{
	napi_value f;
	napi_create_function(env, "total", NAPI_AUTO_LENGTH, total, NULL, &f);
	napi_set_named_property(env, exports, "total", f);
	return exports;
}
