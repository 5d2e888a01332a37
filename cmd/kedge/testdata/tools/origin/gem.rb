# Writes a gem, and what a server says of it.
require "rubygems/package"
require "fileutils"
require "digest"
require "zlib"
www = ARGV[0]
%w[gems info quick/Marshal.4.8].each { |dir| FileUtils.mkdir_p(File.join(www, dir)) }
spec = Gem::Specification.new do |s|
  s.name, s.version, s.summary, s.authors, s.files = "kedgedep", "1.0.0", "a gem", ["kedge"], ["lib/kedgedep.rb"]
end
file = Gem::Package.build(spec, true)
FileUtils.cp(file, File.join(www, "gems"))
File.binwrite(File.join(www, "quick/Marshal.4.8/kedgedep-1.0.0.gemspec.rz"), Zlib.deflate(Marshal.dump(spec)))
info = "---\n1.0.0 |checksum:#{Digest::SHA256.file(file).hexdigest}\n"
File.write(File.join(www, "info/kedgedep"), info)
File.write(File.join(www, "versions"), "created_at: 2024-01-01T00:00:00Z\n---\nkedgedep 1.0.0 #{Digest::MD5.hexdigest(info)}\n")
