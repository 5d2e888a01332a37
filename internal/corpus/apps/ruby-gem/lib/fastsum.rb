require "fastsum_ext"
