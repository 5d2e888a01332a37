Gem::Specification.new do |s|
  s.name = "kedgegem"
  s.version = "1.0"
  s.summary = "an anchor"
  s.authors = ["kedge"]
  s.files = ["lib/kedgegem.rb", "ext/extconf.rb"]
  s.extensions = ["ext/extconf.rb"]
end
