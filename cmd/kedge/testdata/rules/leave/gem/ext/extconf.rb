# An extension that needs no compiler.
File.write("Makefile", "sitearchdir = #{RbConfig::CONFIG["sitearchdir"]}\nall install clean:\n")
