require "fastsum"
puts Fastsum.total([1, 2])
