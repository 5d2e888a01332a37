#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static ngx_int_t handle(ngx_http_request_t *r)
{
	static u_char text[] = "hello\n";
	ngx_buf_t *b = ngx_calloc_buf(r->pool);
	ngx_chain_t out = {b, NULL};
	if (b == NULL)
		return NGX_HTTP_INTERNAL_SERVER_ERROR;
	b->pos = text;
	b->last = text + sizeof(text) - 1;
	b->memory = b->last_buf = 1;
	r->headers_out.status = NGX_HTTP_OK;
	r->headers_out.content_length_n = sizeof(text) - 1;
	ngx_http_send_header(r);
	return ngx_http_output_filter(r, &out);
}

static char *greet(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
	ngx_http_core_loc_conf_t *c = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
	c->handler = handle;
	return NGX_CONF_OK;
}

static ngx_command_t commands[] = {
	{ngx_string("greet"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, greet, 0, 0, NULL}, ngx_null_command};
static ngx_http_module_t context;
ngx_module_t ngx_http_greet_module = {NGX_MODULE_V1, &context, commands, NGX_HTTP_MODULE,
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING};
