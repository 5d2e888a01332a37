package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// leastIDs is how many subordinate ids make the ids up to 65534, nobody, exist in a build.
	leastIDs = 65534
	// usualIDs is how many useradd gives, and firstID the lowest.
	usualIDs = 65536
	firstID  = 100000

	slirp  = "slirp4netns"
	tunDev = "/dev/net/tun"
)

// rootless says how a user who is not root runs buildkitd: in namespaces that rootlesskit makes.
type rootless struct {
	Kit     string `json:"rootlesskit"` // path
	Network string `json:"network"`     // "host" or "slirp4netns"
}

// sbin is where a distribution may keep runc, and where an ordinary user's PATH does not lead.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// asUser returns the options with the environment that a daemon of an ordinary user needs.
func (o Options) asUser(d rootDir, uid int) Options {
	path := o.path()
	for _, dir := range sbin {
		if !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	o.Env = append(slices.Clone(o.Env), "PATH="+strings.Join(path, ":"))
	// After su these may be another user's. In XDG_RUNTIME_DIR runc keeps its state, unless it takes the user for root.
	o.Env = append(o.Env, "XDG_RUNTIME_DIR="+d.runtime())
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		o.Env = append(o.Env, "USER="+u.Username)
	}
	return o
}

// rootless looks for everything that a daemon of the user uid needs beside buildkitd and its runtime.
func (o Options) rootless(uid int, c settings) (*rootless, error) {
	kit, err := o.search("rootlesskit", append([]string{filepath.Dir(o.Serve[0])}, o.path()...), "rootlesskit")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if _, err := o.search(name, o.path(), name); err != nil {
			return nil, err
		}
	}
	if err := forbidden("/proc/sys"); err != nil {
		return nil, err
	}
	name := o.env("USER")
	if name == "" {
		return nil, &SetupError{Lacks: UserName}
	}
	if err := o.subIDs(name, uid); err != nil {
		return nil, err
	}
	network, err := o.network(c)
	return &rootless{Kit: kit, Network: network}, err
}

// forbidden fails where the kernel, whose settings are below sysctl, keeps this process from making the namespaces.
func forbidden(sysctl string) error {
	for _, name := range []string{"user/max_user_namespaces", "kernel/unprivileged_userns_clone"} {
		data, err := os.ReadFile(filepath.Join(sysctl, name))
		if err == nil && strings.TrimSpace(string(data)) == "0" {
			return &SetupError{Lacks: UserNamespaces, Setting: strings.ReplaceAll(name, "/", ".")}
		}
	}
	// newuidmap would run without the privileges that it exists for.
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set == 1 {
		return &SetupError{Lacks: Privileges}
	}
	return nil
}

// subIDs fails unless /etc/subuid and /etc/subgid give the user enough ids, or getsubids, which knows of other places,
// lists them.
func (o Options) subIDs(name string, uid int) error {
	getsubids, _ := o.search("", o.path(), "getsubids") // shadow 4.10 and later have it
	short := &SetupError{Lacks: SubordinateIDs, User: name, Have: leastIDs}
	var taken []idRange
	for file, ask := range map[string][]string{"/etc/subuid": {name}, "/etc/subgid": {"-g", name}} {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading which ids the user has: %w", err)
		}
		have := 0
		for _, r := range idRanges(string(data)) {
			taken = append(taken, r)
			if r.owner == name || r.owner == strconv.Itoa(uid) {
				have += r.count
			}
		}
		if have < leastIDs && getsubids != "" {
			have = max(have, listedIDs(askIDs(getsubids, ask...)))
		}
		if have < leastIDs {
			short.Files = append(short.Files, file)
			short.Have = min(short.Have, have)
		}
	}
	if short.Files == nil {
		return nil
	}
	slices.Sort(short.Files)
	short.Line = fmt.Sprintf("%s:%d:%d", name, freeIDs(taken), usualIDs)
	return short
}

// idsTime is how long getsubids may take, which may ask a directory service over the network.
const idsTime = 5 * time.Second

// askIDs returns what getsubids prints: nothing where it fails, as it does where there are none, or does not end.
func askIDs(getsubids string, ask ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), idsTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, getsubids, ask...)
	cmd.WaitDelay = time.Second // what it started may hold its output
	out, _ := cmd.Output()
	return string(out)
}

// An idRange is a line of /etc/subuid or /etc/subgid; see subuid(5).
type idRange struct {
	owner        string // name or number
	start, count int
}

// idRanges returns the lines that are whole; newuidmap overlooks the others, too.
func idRanges(lines string) []idRange {
	var ranges []idRange
	for line := range strings.Lines(lines) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		start, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 == nil && err2 == nil {
			ranges = append(ranges, idRange{fields[0], int(start), int(count)})
		}
	}
	return ranges
}

// freeIDs returns the first of usualIDs that nobody has.
func freeIDs(taken []idRange) int {
	slices.SortFunc(taken, func(a, b idRange) int { return a.start - b.start })
	free := firstID
	for _, r := range taken {
		if r.start >= free+usualIDs {
			break
		}
		free = max(free, r.start+r.count)
	}
	return free
}

// listedIDs returns how many ids getsubids has listed, in lines of INDEX: NAME START COUNT.
func listedIDs(lines string) (have int) {
	for line := range strings.Lines(lines) {
		if fields := strings.Fields(line); len(fields) == 4 {
			if n, err := strconv.Atoi(fields[3]); err == nil && n > 0 {
				have += n
			}
		}
	}
	return have
}

// network returns the network that the daemon is to have. In one of its own its steps may listen on any port, as those
// of root's may, and do not reach what listens on this machine alone; which a registry that the configuration names may.
func (o Options) network(c settings) (string, error) {
	switch o.Network {
	case "":
		if _, err := o.search(slirp, o.path(), slirp); err != nil || tunnel() != nil || c.loopback() {
			return "host", nil
		}
		return slirp, nil
	case "host":
		return "host", nil
	case slirp:
		if _, err := o.search(slirp, o.path(), slirp); err != nil {
			return "", err
		}
		if err := tunnel(); err != nil {
			return "", fmt.Errorf("%s makes a network device: %w", slirp, err)
		}
		return slirp, nil
	}
	return "", fmt.Errorf("network %q is not host or %s", o.Network, slirp)
}

// tunnel fails if this user may not make network devices.
func tunnel() error {
	f, err := os.OpenFile(tunDev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// loopback says whether the configuration names a registry that only this machine reaches.
func (c settings) loopback() bool {
	for name, r := range c.Registry {
		if slices.ContainsFunc(append(r.Mirrors, name), isLoopback) {
			return true
		}
	}
	return false
}

// isLoopback says whether a registry, HOST[:PORT][/PATH], is on this machine.
func isLoopback(registry string) bool {
	if _, rest, ok := strings.Cut(registry, "://"); ok {
		registry = rest
	}
	u, err := url.Parse("//" + registry)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

// flags returns the command line of rootlesskit, up to the program that it runs.
func (r *rootless) flags(d rootDir) []string {
	flags := []string{
		"--state-dir", d.kit(),
		"--net", r.Network,
		// Whoever dies, kill -9 or not: the kernel ends all that is below.
		"--pidns",
	}
	if r.Network != "host" {
		// resolv.conf is another there.
		flags = append(flags, "--copy-up=/etc", "--disable-host-loopback")
	}
	return flags
}
