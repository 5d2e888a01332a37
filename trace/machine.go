package trace

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

// KernelRelease is the name of the fact that uname -r prints.
const KernelRelease = "kernel release"

// ReadMachine reads facts about a Linux machine from the /proc and /sys of its root. What cannot be read is left
// out.
func ReadMachine(root fs.FS) []Fact {
	readAt := func(name string) string {
		data, _ := fs.ReadFile(root, name)
		return strings.TrimSpace(string(data))
	}
	read := func(name string) string { return readAt("proc/" + name) }
	var facts []Fact
	add := func(name, value string, asked ...string) {
		if value != "" {
			facts = append(facts, Fact{Name: name, Value: value, Asked: asked})
		}
	}
	boot := read("sys/kernel/random/boot_id")
	add("boot ID", boot)
	add("boot ID", strings.ReplaceAll(boot, "-", ""))
	add("boot ID", strings.ToUpper(boot))
	add(KernelRelease, read("sys/kernel/osrelease"))
	add("kernel version", read("sys/kernel/version"))
	if name := read("sys/kernel/hostname"); len(name) > 3 && strings.ContainsAny(name, "0123456789.-") { // a single word is in many texts
		add("hostname", name)
	}
	cpus := 0
	model, features := "", ""
	for line := range strings.Lines(read("cpuinfo")) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			cpus++
		case "model name":
			model = strings.TrimSpace(value)
		case "flags", "Features":
			features = strings.TrimSpace(value)
		}
	}
	if len(model) > 7 {
		add("CPU model", model)
	}
	if len(features) > maxValue { // whole words, as many as are compared
		features = features[:max(0, strings.LastIndexByte(features[:maxValue], ' '))]
	}
	if strings.Count(features, " ") > 2 {
		add("CPU features", features)
	}
	if cpus > 0 {
		add("number of CPUs", strconv.Itoa(cpus), `\bnproc\b`, "cpuinfo", "lscpu", "NPROCESSORS", "cpu_count", "NumCPU", "availableProcessors", `os\.cpus`)
	}
	add("range of CPUs", readAt("sys/devices/system/cpu/online"), `devices/system/cpu`)
	for line := range strings.Lines(read("meminfo")) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "MemTotal:" || len(words[1]) < 6 {
			continue
		}
		add("size of memory", words[1])
		if n, err := strconv.ParseInt(words[1], 10, 54); err == nil {
			add("size of memory", strconv.FormatInt(n*1024, 10))
			add("size of memory", strconv.FormatInt(n/1024, 10), `\bfree\b`, "meminfo")
		}
	}
	for line := range strings.Lines(read("stat")) {
		if seconds, ok := strings.CutPrefix(strings.TrimSpace(line), "btime "); ok {
			add("time of the last start", seconds)
			if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
				add("time of the last start", time.Unix(n, 0).UTC().Format("2006-01-02 15:04")) // as uptime -s prints it
			}
		}
	}
	if line := read("cmdline"); len(line) > 20 {
		add("kernel command line", line[:min(len(line), maxValue)])
	}
	for _, name := range []string{"product_name", "product_uuid", "product_serial", "board_name"} {
		if value := readAt("sys/class/dmi/id/" + name); len(value) > 7 && strings.Trim(value, "0") != "" {
			add(strings.ReplaceAll(name, "_", " "), value)
		}
	}
	cards, _ := fs.Glob(root, "sys/class/net/*/address")
	for _, name := range cards {
		if mac := readAt(name); len(mac) == 17 && strings.Trim(mac, "0:") != "" {
			add("address of a network card", mac)
		}
	}
	for _, address := range localAddresses(read("net/fib_trie")) {
		add("IP address", address, `\bhostname -[iI]`, `\bip (?:-\w+ )*[ar]`, "ifconfig", "fib_trie", "gethostby", "getifaddrs")
	}
	for line := range strings.Lines(readAt("etc/resolv.conf")) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			add("name server", words[1], `resolv\.conf`)
		}
	}
	for _, f := range facts {
		if len(f.Asked) > 0 {
			continue
		}
		for _, form := range forms(f.Value) {
			add(f.Name+", as a hash", form, `\b(?:md5|sha1|sha224|sha256|sha384|sha512|b2)sum\b|\bbase64\b|\bhashlib\b|\bxxd\b|\brev\b|\btr\b`)
		}
	}
	return append(facts, unread...)
}

// unread are facts whose value only the builder's file system knows: a step that asks for one has it in a short
// text with a number.
var unread = []Fact{
	{Name: "inode number", Asked: []string{`\bstat\b.*%i`, `-printf.*%i`, `\bls (?:-\w+ )*-\w*i`, `\bst_ino\b`}, Digits: 3},
	{Name: "number of a device", Asked: []string{`\bstat\b.*%[dDtT]\b`, `\bst_dev\b`, `\bmountpoint\s+-d`}, Digits: 2},
	{Name: "limit of the builder", Asked: []string{`\bulimit\b`, `\bgetrlimit\b`, `/proc/self/limits`}, Digits: 3},
	{Name: "kernel parameter", Asked: []string{`/proc/sys/`, `\bsysctl\s+(?:-n|-a|[a-z])`}, Digits: 3},
	{Name: "number of a process", Asked: []string{`\$\$(?:[^\w(]|$)`, `\bgetpid\b`, `\$(?:BASHPID|PPID)\b`, `/proc/self/stat`}, Digits: 1},
	{Name: "time since the last start", Asked: []string{`\buptime\b`}, Digits: 1},
	{Name: "size of a disk", Asked: []string{`\bdf\b`, `\bdisk_usage\b`, `\bstatvfs\b`, `\bstat\b.*-f`}, Digits: 4},
}

// localAddresses returns the IPv4 addresses of a machine that are not those of every machine.
func localAddresses(trie string) []string {
	var all []string
	last := ""
	for line := range strings.Lines(trie) {
		line = strings.TrimSpace(line)
		if address, ok := strings.CutPrefix(line, "|-- "); ok {
			last = address
		}
		if strings.HasSuffix(line, "host LOCAL") && !strings.HasPrefix(last, "127.") && !slices.Contains(all, last) {
			all = append(all, last)
		}
	}
	return all
}
