package trace

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// commonNames are names of machines that say nothing about them.
var commonNames = []string{"localhost", "buildkitsandbox", "debian", "ubuntu", "docker", "linux", "runner", "build", "builder", "host", "root"}

// KernelRelease is the name of the fact that uname -r prints.
const KernelRelease = "kernel release"

// ReadMachine reads facts about a Linux machine from its /proc. What cannot be read is left out.
func ReadMachine(proc fs.FS) []Fact {
	read := func(name string) string {
		data, _ := fs.ReadFile(proc, name)
		return strings.TrimSpace(string(data))
	}
	var facts []Fact
	add := func(name, value string, asked ...string) {
		if value != "" {
			facts = append(facts, Fact{name, value, asked})
		}
	}
	boot := read("sys/kernel/random/boot_id")
	add("boot ID", boot)
	add("boot ID", strings.ReplaceAll(boot, "-", ""))
	add(KernelRelease, read("sys/kernel/osrelease"))
	add("kernel version", read("sys/kernel/version"))
	if name := read("sys/kernel/hostname"); len(name) > 3 && !slices.Contains(commonNames, strings.ToLower(name)) {
		add("hostname", name)
	}
	cpus := 0
	model := ""
	for line := range strings.Lines(read("cpuinfo")) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			cpus++
		case "model name":
			model = strings.TrimSpace(value)
		}
	}
	if len(model) > 7 {
		add("CPU model", model)
	}
	if cpus > 0 {
		add("number of CPUs", strconv.Itoa(cpus), "nproc", "cpuinfo", "lscpu", "NPROCESSORS", "cpu_count", "NumCPU", "availableProcessors", "os.cpus")
	}
	for line := range strings.Lines(read("meminfo")) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "MemTotal:" || len(words[1]) < 6 {
			continue
		}
		add("size of memory", words[1])
		if n, err := strconv.ParseInt(words[1], 10, 54); err == nil {
			add("size of memory", strconv.FormatInt(n*1024, 10))
			add("size of memory", strconv.FormatInt(n/1024, 10), "free ", "meminfo")
		}
	}
	return facts
}
