package cause

import (
	"fmt"
	"strings"
)

// A Kind names why two versions of a file differ. Kinds describes each of them.
type Kind string

// The kinds of a Cause. A kind is never reused for something else.
const (
	Timestamp     Kind = "timestamp"
	Duration      Kind = "duration"
	CompilerDate  Kind = "compiler-date"
	BuildPath     Kind = "build-path"
	TempName      Kind = "temp-name"
	Hostname      Kind = "hostname"
	UUID          Kind = "uuid"
	Random        Kind = "random"
	MemoryAddress Kind = "memory-address"
	PrivateKey    Kind = "private-key"
	SSHKey        Kind = "ssh-key"
	SecretKey     Kind = "secret-key"
	Certificate   Kind = "certificate"
	Keystore      Kind = "keystore"
	MachineID     Kind = "machine-id"
	Order         Kind = "order"
	HashOrder     Kind = "hash-order"
	LocaleOrder   Kind = "locale-order"
	ParallelOrder Kind = "parallel-order"
	Locale        Kind = "locale"
	BuildID       Kind = "build-id"
	CPU           Kind = "cpu"
	ArchiveHeader Kind = "archive-header"
	Compression   Kind = "compression"
	Pyc           Kind = "pyc"
	SQLite        Kind = "sqlite"
	Database      Kind = "database"
	DocumentID    Kind = "document-id"
	ProcessID     Kind = "process-id"
	FileStatus    Kind = "file-status"
	PackageLog    Kind = "package-log"
	FileType      Kind = "file-type"
	Mode          Kind = "mode"
	Owner         Kind = "owner"
	Xattrs        Kind = "xattrs"
	FileTime      Kind = "file-time"
	LinkTarget    Kind = "link-target"
	Device        Kind = "device"
	OneBuildOnly  Kind = "one-build-only"
	CacheMount    Kind = "cache-mount"
	Unopened      Kind = "unopened"
	Unknown       Kind = "unknown"
)

// A Description explains a kind in general, in one sentence a field.
type Description struct {
	Kind Kind
	What string // what differs in the file
	Why  string // what makes it differ
	Fix  string // how to avoid it
	Link string
}

const (
	rbDocs     = "https://reproducible-builds.org/docs/"
	sourceDate = "https://reproducible-builds.org/specs/source-date-epoch/"
)

var kinds = []Description{
	{
		Timestamp,
		"A date or time differs, as text or in binary.",
		"The build stored the current time, or the modification time of a file that it had just written.",
		"Leave the time out, or take it from the environment: SOURCE_DATE_EPOCH is set in every RUN.",
		rbDocs + "timestamps/",
	},
	{
		Duration,
		"The duration of something differs.",
		"A program recorded how long it ran.",
		"Make the program quiet, or remove its log in the same RUN.",
		rbDocs + "timestamps/",
	},
	{
		CompilerDate,
		"A compiled program holds another date or time of day, in the form of C's __DATE__ and __TIME__.",
		"The preprocessor inserts the time of compilation. GCC and Clang use SOURCE_DATE_EPOCH if it is set; other compilers and scripts do not.",
		"Remove __DATE__ and __TIME__ from the source (-Werror=date-time finds them), and check that nothing unsets SOURCE_DATE_EPOCH.",
		"https://gcc.gnu.org/onlinedocs/cpp/Environment-Variables.html",
	},
	{
		BuildPath,
		"The path of a build directory differs.",
		"The directory of the build has another name each time, and debug information, a script or a configuration file holds it.",
		"Build in a directory with a fixed name; for C, -ffile-prefix-map=DIR=. omits it.",
		rbDocs + "build-path/",
	},
	{
		TempName,
		"The name of a temporary file or directory differs.",
		"mktemp and similar functions choose names at random, and the name was stored.",
		"Use a fixed name, such as /tmp/build, and remove it in the same RUN.",
		rbDocs + "build-path/",
	},
	{
		Hostname,
		"The hostname or the container ID differs.",
		"A program stored the name of the host that it ran on.",
		"Set the name to a fixed value, or set it when the container starts.",
		rbDocs + "definition-strategies/",
	},
	{
		UUID,
		"A UUID differs.",
		"UUIDs are random, or made from the time and the network address.",
		"Create it when the container starts, or derive it from a name (uuidgen --sha1 --namespace @dns --name NAME).",
		rbDocs + "randomness/",
	},
	{
		Random,
		"Hex digits, base64 or bytes without a pattern differ.",
		"They are random, encrypted, or a hash of something else that differs.",
		"Create random data when the container starts; for a hash, find out why the hashed content differs.",
		rbDocs + "randomness/",
	},
	{
		MemoryAddress,
		"An address in memory differs.",
		"A program stored the address of an object; the kernel chooses addresses at random for each process.",
		"Store the object's name or number instead of its address, or create the file when the container starts.",
		rbDocs + "randomness/",
	},
	{
		PrivateKey,
		"A private key differs.",
		"The build created a key pair. Everyone who has the image has the private key.",
		"Create the key when the container starts: in the entrypoint, if there is none.",
		rbDocs + "randomness/",
	},
	{
		SSHKey,
		"An SSH host key differs.",
		"Installing openssh-server creates host keys. All containers of the image share them.",
		"Remove /etc/ssh/ssh_host_* in the same RUN, and run ssh-keygen -A when the container starts.",
		"https://manpages.debian.org/stable/openssh-client/ssh-keygen.1.en.html",
	},
	{
		SecretKey,
		"A secret key differs.",
		"A program created a key to sign, encrypt or log in with. Everyone who has the image has the key.",
		"Remove the key in the same RUN, and create it when the container starts or pass it to the container.",
		rbDocs + "randomness/",
	},
	{
		Certificate,
		"A certificate differs: its key, serial number or validity.",
		"The build created a certificate for a new key, valid from that moment.",
		"Create the certificate when the container starts, or add one that you keep as a secret or a file.",
		rbDocs + "randomness/",
	},
	{
		Keystore,
		"The dates, salts or keys of a Java (JKS) or PKCS #12 keystore differ.",
		"A keystore records when each entry was added, and is sealed with a random salt.",
		"Create the keystore when the container starts, or use PEM files, which hold neither.",
		"https://docs.oracle.com/en/java/javase/21/docs/specs/man/keytool.html",
	},
	{
		MachineID,
		"The machine ID differs.",
		"Installing systemd or dbus creates a random ID, which must be unique for each machine.",
		"Empty /etc/machine-id and remove /var/lib/dbus/machine-id in the same RUN; systemd creates it at boot.",
		"https://www.freedesktop.org/software/systemd/man/latest/machine-id.html",
	},
	{
		Order,
		"The same lines or members are in another order.",
		"A program listed a directory in the order of the file system, or wrote results in the order in which they arrived.",
		"Sort before writing: | LC_ALL=C sort.",
		rbDocs + "stable-inputs/",
	},
	{
		HashOrder,
		"The same keys or elements of JSON, a dict or a set are in another order.",
		"The program iterates over a hash table whose seed is random in each process.",
		"Sort the keys when writing. Python keeps one order with PYTHONHASHSEED=0, and Perl with PERL_HASH_SEED=0; kedge sets both in every RUN, unless the Dockerfile sets them.",
		"https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED",
	},
	{
		LocaleOrder,
		"The same lines are sorted by different rules: by bytes in one build, by the collation of a language in the other.",
		"sort and similar programs follow LC_ALL, LC_COLLATE and LANG, which differed.",
		"Sort by bytes: LC_ALL=C sort.",
		rbDocs + "locales/",
	},
	{
		ParallelOrder,
		"The lines of a build log or the objects of a library are in the order in which parallel jobs finished.",
		"make -j runs jobs in parallel, and which of them finishes first is chance.",
		"Sort the objects of the archive ($(sort $(wildcard *.o))), and do not keep the log.",
		rbDocs + "stable-inputs/",
	},
	{
		Locale,
		"Words, month names or numbers are in another language.",
		"The program follows LANG or LC_ALL, which differed.",
		"Set LC_ALL=C.UTF-8 for the command.",
		rbDocs + "locales/",
	},
	{
		BuildID,
		"The build ID of an ELF program differs.",
		"The build ID is random, or a hash of the linker's output: it follows from the other differences, or from debug information that was stripped.",
		"Remove the other causes first; if none is left, link with -Wl,--build-id=none, and Go programs with -trimpath -ldflags=-buildid=.",
		"https://sourceware.org/binutils/docs/ld/Options.html",
	},
	{
		CPU,
		"The name or the features of a processor differ.",
		"A program stored the processor of the machine that built it, as -march=native does.",
		"Name the processor: -march=x86-64-v2 instead of -march=native.",
		"https://gcc.gnu.org/onlinedocs/gcc/x86-Options.html",
	},
	{
		ArchiveHeader,
		"The times, owners, modes or names of an archive's members differ, and their contents are equal.",
		"Archivers store the metadata of each file, such as the time at which it was written.",
		"tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner; gzip -n; zip -X with TZ=UTC after touch; ar D.",
		rbDocs + "archives/",
	},
	{
		Compression,
		"The same content is compressed to different bytes.",
		"The version, level or number of threads of the compressor differed.",
		"Set the level, and use one thread if the output depends on their number.",
		rbDocs + "archives/",
	},
	{
		Pyc,
		"The time of the source in a compiled Python file differs, or the same code is stored in another form.",
		"A .pyc file holds the time and size of its source, and how it shares objects depends on the memory of the process that compiled it.",
		"python -m compileall --invalidation-mode checked-hash, or PYTHONDONTWRITEBYTECODE=1.",
		"https://docs.python.org/3/library/py_compile.html",
	},
	{
		SQLite,
		"The pages, counters or rows of an SQLite database differ.",
		"SQLite lays pages out in the order of the writes, and counts transactions in the header.",
		"Write in one order and VACUUM INTO a new file as the last step; or create the database when the container starts.",
		"https://www.sqlite.org/fileformat2.html",
	},
	{
		Database,
		"The files of a database server differ.",
		"A new database gets a random or time-based ID, and its logs and pages depend on the time of each write.",
		"Empty its directory in the same RUN, and let the entrypoint initialise the database if the directory is empty.",
		rbDocs + "randomness/",
	},
	{
		DocumentID,
		"Generated IDs of a PDF, XML or HTML document differ.",
		"The generator derives IDs from the time, from addresses in memory or from random numbers.",
		"Ask the generator for stable IDs: generate.consistent.ids=1 for DocBook XSL; TeX and Ghostscript follow SOURCE_DATE_EPOCH.",
		rbDocs + "randomness/",
	},
	{
		ProcessID,
		"A process ID differs.",
		"A program stored its process id, in a log or a pid file.",
		"Remove the file in the same RUN.",
		rbDocs + "randomness/",
	},
	{
		FileStatus,
		"Stored inode numbers or times of other files differ.",
		"A cache stores the metadata of files to notice changes; ldconfig's aux-cache and git's index do.",
		"Remove the cache in the same RUN: /var/cache/ldconfig/aux-cache, .git.",
		"https://manpages.debian.org/stable/libc-bin/ldconfig.8.en.html",
	},
	{
		PackageLog,
		"The log of a package manager differs.",
		"Package managers such as apt and dpkg record when each step ran.",
		"Remove the logs in the same RUN: rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log.",
		rbDocs + "timestamps/",
	},
	{
		FileType,
		"The type of the file differs: one build made a directory, a link or a device.",
		"A step does different things, depending on what it finds or which job comes first.",
		"Remove the path before the step creates it.",
		rbDocs + "stable-inputs/",
	},
	{
		Mode,
		"The permissions differ.",
		"They follow the umask of the build, or the permissions in the checkout.",
		"Set them: COPY --chmod=0644, install -m 0644, or umask 022 in the RUN.",
		rbDocs + "system-images/",
	},
	{
		Owner,
		"The owner or group differs.",
		"A package that adds a user gets the next free number, which depends on the order of installation.",
		"Add the user with a fixed number first: useradd --uid 999 NAME, or COPY --chown=0:0.",
		rbDocs + "system-images/",
	},
	{
		Xattrs,
		"Extended attributes differ.",
		"SELinux labels or file capabilities came from the machine, or the file system could not store them.",
		"Set them in a RUN (setcap), and build on a file system that stores them.",
		rbDocs + "system-images/",
	},
	{
		FileTime,
		"Only the modification time of the file differs.",
		"Each build wrote the file at another time, and kedge did not clamp the time: it is not after the epoch, or another program wrote the image.",
		"Let kedge write the image, which clamps times; or touch -d @$SOURCE_DATE_EPOCH.",
		sourceDate,
	},
	{
		LinkTarget,
		"The target of the link differs.",
		"The target was computed: from the latest version, a temporary name, or the first of an unsorted list.",
		"Write the target out.",
		rbDocs + "stable-inputs/",
	},
	{
		Device,
		"The numbers of the device differ.",
		"The device was copied from the machine that ran the build.",
		"Leave devices to the runtime, or give mknod fixed numbers.",
		rbDocs + "system-images/",
	},
	{
		OneBuildOnly,
		"Only one of the builds has this file.",
		"Its name holds something that differs, or a step creates it only under a condition: a cache, a race, an answer of the network.",
		"Find the step that creates the file, and give it a fixed name or remove it in the same RUN.",
		rbDocs + "definition-strategies/",
	},
	{
		CacheMount,
		"The step has a cache mount, and no other known cause explains the difference.",
		"A cache mount holds files of earlier builds, and the step put some of them, or a result of them, into the image.",
		"Copy only files out of the cache mount that the step would create without it, too.",
		"https://docs.docker.com/reference/dockerfile/#run---mounttypecache",
	},
	{
		Unopened,
		"An archive or a compressed file differs that kedge did not open.",
		"It is too large, nested too deeply, encrypted, damaged, or in a format that kedge does not read.",
		"Unpack both versions by hand and compare their contents.",
		rbDocs + "archives/",
	},
	{
		Unknown,
		"Bytes differ, and no known cause explains them.",
		"kedge does not understand the content of the file.",
		"Find out which program wrote the bytes at these offsets.",
		rbDocs,
	},
}

// Kinds returns the descriptions of all kinds, in the order of docs/causes.md.
func Kinds() []Description {
	return append([]Description(nil), kinds...)
}

// describe returns the description of k, the zero value for a kind that does not exist.
func describe(k Kind) Description {
	for _, d := range kinds {
		if d.Kind == k {
			return d
		}
	}
	return Description{}
}

// KindsMarkdown renders the kinds as the page docs/causes.md.
func KindsMarkdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Why two builds differ\n\n")
	fmt.Fprintf(&b, "Generated from `cause/kinds.go`. kedge finds these causes in the content of the files.\n")
	fmt.Fprintf(&b, "A file may have several. If no cause fits, kedge says `unknown` and does not guess.\n")
	for _, d := range kinds {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s\n\nInstead: %s See <%s>.\n", d.Kind, d.What, d.Why, d.Fix, d.Link)
	}
	return b.String()
}
