package cause

import (
	"fmt"
	"strings"
)

// Kind names why two versions of a file differ. Kinds says what each of them means.
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

// A Description is what is known of a kind in general, one sentence each.
type Description struct {
	Kind Kind   `json:"kind"`
	What string `json:"what"` // what is seen in the file
	Why  string `json:"why"`  // how it comes about
	Fix  string `json:"fix"`  // what to write instead
	Link string `json:"link"`
}

const (
	rbDocs     = "https://reproducible-builds.org/docs/"
	sourceDate = "https://reproducible-builds.org/specs/source-date-epoch/"
)

var kinds = []Description{
	{
		Timestamp,
		"A date or a time, as text or in binary, is another one.",
		"The build asked a clock, or the time of a file that it had just written, and stored the answer.",
		"Leave the time out, or take it from the environment: SOURCE_DATE_EPOCH is set in every RUN.",
		rbDocs + "timestamps/",
	},
	{
		Duration,
		"The time that something took is another one.",
		"A program wrote down how long it ran.",
		"Make the program quiet, or remove its log in the same RUN.",
		rbDocs + "timestamps/",
	},
	{
		CompilerDate,
		"A compiled program holds another date or time of day, in the form of C's __DATE__ and __TIME__.",
		"The preprocessor puts in the time of compilation; GCC and Clang take SOURCE_DATE_EPOCH where it is set, other compilers and scripts do not.",
		"Remove __DATE__ and __TIME__ from the source (-Werror=date-time finds them), and see that nothing unsets SOURCE_DATE_EPOCH.",
		"https://gcc.gnu.org/onlinedocs/cpp/Environment-Variables.html",
	},
	{
		BuildPath,
		"A path in which something was built is another one.",
		"The build ran in a directory with a name of its own, and debug information, a script or a configuration holds it.",
		"Build in a directory with a fixed name; for C, -ffile-prefix-map=DIR=. leaves it out.",
		rbDocs + "build-path/",
	},
	{
		TempName,
		"The name of a temporary file or directory is another one.",
		"mktemp and its like choose names at random, and the name was stored.",
		"Use a fixed name, such as /tmp/build, and remove it in the same RUN.",
		rbDocs + "build-path/",
	},
	{
		Hostname,
		"The name of the machine or the id of the container is another one.",
		"A program asked for the name of the host that it runs on.",
		"Give the name as a fixed value, or have it filled in at start.",
		rbDocs + "definition-strategies/",
	},
	{
		UUID,
		"A UUID is another one.",
		"UUIDs are made at random, or of the time and the network card.",
		"Make it at start, or derive it from a name (uuidgen --sha1 --namespace @dns --name NAME).",
		rbDocs + "randomness/",
	},
	{
		Random,
		"Hex digits, base64 or bytes without a pattern are others.",
		"Something random was stored, or a hash of something else that differs, or it is encrypted.",
		"Make what is random at start; where it is a hash, remove the cause in what is hashed.",
		rbDocs + "randomness/",
	},
	{
		MemoryAddress,
		"The address of something in memory is another one.",
		"A program wrote down where an object was in memory, which the kernel chooses at random for each process.",
		"Write the object's name or number instead of its address, or make the file at start.",
		rbDocs + "randomness/",
	},
	{
		PrivateKey,
		"A private key is another one.",
		"The build made a key pair. Besides, everyone who has the image has the key.",
		"Make the key at start, in the entrypoint, where it is absent.",
		rbDocs + "randomness/",
	},
	{
		SSHKey,
		"An SSH host key is another one.",
		"Installing openssh-server makes host keys. Every container from the image shares them.",
		"Remove /etc/ssh/ssh_host_* in the same RUN, and run ssh-keygen -A at start.",
		"https://manpages.debian.org/stable/openssh-client/ssh-keygen.1.en.html",
	},
	{
		SecretKey,
		"A secret key, which two programs share, is another one.",
		"A program made a key to sign, to encrypt or to log in with. Everyone who has the image has it.",
		"Make the key at start, or give it to the container; remove it in the same RUN.",
		rbDocs + "randomness/",
	},
	{
		Certificate,
		"A certificate is another one: its key, serial number or validity.",
		"The build made a certificate, which starts to be valid at that moment and signs a new key.",
		"Make the certificate at start, or add one that you keep as a secret or a file.",
		rbDocs + "randomness/",
	},
	{
		Keystore,
		"A keystore of Java (JKS) or PKCS #12 has other dates, salts or keys.",
		"A keystore records when each entry was added, and is sealed with a random salt.",
		"Make the keystore at start, or use PEM files, which hold neither.",
		"https://docs.oracle.com/en/java/javase/21/docs/specs/man/keytool.html",
	},
	{
		MachineID,
		"The machine id is another one.",
		"Installing systemd or dbus makes an id at random, which has to be unique for every machine.",
		"Empty /etc/machine-id and remove /var/lib/dbus/machine-id in the same RUN; systemd fills it in at start.",
		"https://www.freedesktop.org/software/systemd/man/latest/machine-id.html",
	},
	{
		Order,
		"The same lines or members are in another order.",
		"A directory was listed in the order that the file system has it, or results were written as they came.",
		"Sort before writing: | LC_ALL=C sort.",
		rbDocs + "stable-inputs/",
	},
	{
		HashOrder,
		"The same keys or elements are in another order, in JSON, a dict or a set.",
		"The program walks a hash table whose seed is random in each process.",
		"Sort the keys when writing. Python keeps one order with PYTHONHASHSEED=0, and Perl with PERL_HASH_SEED=0; RUN has both in a build by kedge, unless they are set otherwise.",
		"https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED",
	},
	{
		LocaleOrder,
		"The same lines are sorted by other rules: one side by bytes, the other by a language's collation.",
		"sort and its like follow LC_ALL, LC_COLLATE and LANG, which were not the same.",
		"Sort by bytes: LC_ALL=C sort.",
		rbDocs + "locales/",
	},
	{
		ParallelOrder,
		"The lines of a build log or the objects of a library are in the order in which parallel jobs ended.",
		"make -j runs jobs at once, and which of them ends first is chance.",
		"Sort what goes into the archive ($(sort $(wildcard *.o))), and do not keep the log.",
		rbDocs + "stable-inputs/",
	},
	{
		Locale,
		"Words, month names or numbers are in another language.",
		"The program follows LANG or LC_ALL, which were not the same.",
		"Set LC_ALL=C.UTF-8 for the command.",
		rbDocs + "locales/",
	},
	{
		BuildID,
		"The build id of an ELF program is another one.",
		"It is a hash over what the linker wrote, or chosen at random: it follows from the other differences, or from debug information that was stripped.",
		"Remove the other causes first; where none is left, link with -Wl,--build-id=none, and Go programs with -trimpath -ldflags=-buildid=.",
		"https://sourceware.org/binutils/docs/ld/Options.html",
	},
	{
		CPU,
		"It names another processor, or its features.",
		"A program looked at the processor that it was built on, as -march=native and /proc/cpuinfo do.",
		"Name the processor: -march=x86-64-v2 in the place of -march=native.",
		"https://gcc.gnu.org/onlinedocs/gcc/x86-Options.html",
	},
	{
		ArchiveHeader,
		"An archive has other times, owners, modes or names for members whose contents are equal.",
		"Archivers store what the file system says about each file, such as when it was written.",
		"tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner; gzip -n; zip -X with TZ=UTC after touch; ar D.",
		rbDocs + "archives/",
	},
	{
		Compression,
		"The same content is compressed to other bytes.",
		"Another version, level or number of threads of the compressor was used.",
		"Name the level, and one thread where the format depends on it.",
		rbDocs + "archives/",
	},
	{
		Pyc,
		"Compiled Python has another time of its source, or the same code written in another form.",
		"A .pyc holds the time and size of its source; and how it shares objects depends on what the compiling process had in memory.",
		"python -m compileall --invalidation-mode checked-hash, or PYTHONDONTWRITEBYTECODE=1.",
		"https://docs.python.org/3/library/py_compile.html",
	},
	{
		SQLite,
		"An SQLite database has other pages, counters or rows.",
		"Pages are laid out in the order of the writes, and the header counts the transactions.",
		"Write in one order and VACUUM INTO a new file as the last step; or make the database at start.",
		"https://www.sqlite.org/fileformat2.html",
	},
	{
		Database,
		"The files of a database server differ.",
		"Initialising a database gives it a random or time-based id, and its logs and pages follow the moment of each write.",
		"Remove what is in its directory in the same RUN, and initialise the database at start, in the entrypoint, where that is empty.",
		rbDocs + "randomness/",
	},
	{
		DocumentID,
		"A PDF, XML or HTML document has other generated ids.",
		"The generator makes ids of the time, of addresses in memory or at random.",
		"Ask the generator for stable ids: generate.consistent.ids=1 for DocBook XSL; TeX and Ghostscript follow SOURCE_DATE_EPOCH.",
		rbDocs + "randomness/",
	},
	{
		ProcessID,
		"The number of a process is another one.",
		"A program stored its process id, in a log or a pid file.",
		"Remove the file in the same RUN.",
		rbDocs + "randomness/",
	},
	{
		FileStatus,
		"Inode numbers or times of other files are stored.",
		"A cache remembers what stat said about each file, to see whether it changed; ldconfig's aux-cache and git's index do.",
		"Remove the cache in the same RUN: /var/cache/ldconfig/aux-cache, .git.",
		"https://manpages.debian.org/stable/libc-bin/ldconfig.8.en.html",
	},
	{
		PackageLog,
		"The log of a package manager differs.",
		"apt, dpkg and their like write down when each step ran.",
		"Remove the logs in the same RUN: rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log.",
		rbDocs + "timestamps/",
	},
	{
		FileType,
		"One build made a file of another type: a directory, a link, a device.",
		"A step takes two ways, by what it finds or which job comes first.",
		"Remove what is at the path before it is made.",
		rbDocs + "stable-inputs/",
	},
	{
		Mode,
		"The permissions differ.",
		"They follow the umask of the build, or those of the checkout.",
		"Say them: COPY --chmod=0644, install -m 0644, or umask 022 in the RUN.",
		rbDocs + "system-images/",
	},
	{
		Owner,
		"The owner or group differs.",
		"Users that packages add get the next free number, which depends on the order of installation.",
		"Add the user with a fixed number first: useradd --uid 999 NAME, or COPY --chown=0:0.",
		rbDocs + "system-images/",
	},
	{
		Xattrs,
		"Extended attributes differ.",
		"Labels of SELinux or file capabilities came from the machine, or the file system could not store them.",
		"Set them in a RUN (setcap), and build on a file system that stores them.",
		rbDocs + "system-images/",
	},
	{
		FileTime,
		"Nothing differs but the time of the file.",
		"It was written by each build at its own moment, to a time that is not after the epoch or in an image whose times were not clamped.",
		"Let kedge write the image, which clamps times; or touch -d @$SOURCE_DATE_EPOCH.",
		sourceDate,
	},
	{
		LinkTarget,
		"The link points elsewhere.",
		"Its target was computed: a version that was looked up, a temporary name, or the first of an unsorted list.",
		"Name the target.",
		rbDocs + "stable-inputs/",
	},
	{
		Device,
		"The device has other numbers.",
		"It was copied from the machine that ran the build.",
		"Leave devices to the runtime, or give mknod fixed numbers.",
		rbDocs + "system-images/",
	},
	{
		OneBuildOnly,
		"Only one of the builds has this file.",
		"Its name holds something that differs, or a step made it only under some condition: a cache, a race, what the network answered.",
		"Find the step that makes it, and give the file a fixed name or remove it in the same RUN.",
		rbDocs + "definition-strategies/",
	},
	{
		CacheMount,
		"The step has a cache mount, and nothing else that is known explains the difference.",
		"What a cache mount holds follows from earlier builds, and the step put some of that into the image.",
		"Copy nothing out of the cache mount but what the step would make without it.",
		"https://docs.docker.com/reference/dockerfile/#run---mounttypecache",
	},
	{
		Unopened,
		"A container differs that was not opened.",
		"It is too large, nested too deep, encrypted, damaged, or in a form that is not read.",
		"Unpack both sides by hand, and compare what is inside.",
		rbDocs + "archives/",
	},
	{
		Unknown,
		"Bytes differ, and nothing that is known here explains them.",
		"What the file holds is not understood.",
		"Look at what wrote these bytes, at both offsets.",
		rbDocs,
	},
}

// Kinds returns what is known of every kind, in the order in which docs/causes.md has them.
func Kinds() []Description {
	return append([]Description(nil), kinds...)
}

// describe returns the description of k; it is empty for a kind that does not exist.
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
	fmt.Fprintf(&b, "Generated from `cause/kinds.go`. These are the causes that kedge names, found from what is in the files.\n")
	fmt.Fprintf(&b, "A file may have several. Where nothing fits, kedge says unknown, and does not guess.\n")
	for _, d := range kinds {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s\n\nInstead: %s See <%s>.\n", d.Kind, d.What, d.Why, d.Fix, d.Link)
	}
	return b.String()
}
