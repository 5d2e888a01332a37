require "mkmf"
have_header("unistd.h")
have_func("kedge")
create_makefile("fastsum_ext")
