Gem::Specification.new do |s|
  s.name = "fastsum"
  s.version = "1.0"
  s.summary = "adds up"
  s.authors = ["kedge"]
  s.files = ["lib/fastsum.rb", "ext/fastsum/extconf.rb", "ext/fastsum/fastsum_ext.c"]
  s.extensions = ["ext/fastsum/extconf.rb"]
end
