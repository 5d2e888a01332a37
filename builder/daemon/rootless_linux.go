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
	// leastIDs is the number of subordinate ids that a build needs to have all ids up to 65534, the user nobody. prose:allow
	leastIDs = 65534
	// usualIDs is the number of ids that useradd gives, and firstID the lowest.
	usualIDs = 65536
	firstID  = 100000

	slirp  = "slirp4netns"
	tunDev = "/dev/net/tun"
)

// rootless says how a user other than root runs buildkitd, in namespaces that rootlesskit makes.
type rootless struct {
	Kit     string `json:"rootlesskit"` // path
	Network string `json:"network"`     // "host" or "slirp4netns"
}

// sbin are folders in which a distribution may install runc, and which are not on an ordinary user's PATH.
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
	// After su, these variables can be another user's. runc keeps its state in XDG_RUNTIME_DIR.
	o.Env = append(o.Env, "XDG_RUNTIME_DIR="+d.runtime())
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		o.Env = append(o.Env, "USER="+u.Username)
	}
	return o
}

// rootless finds the programs and settings that a daemon of user uid needs in addition to buildkitd and its runtime.
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

// forbidden returns a *SetupError if the kernel does not let this process make namespaces. Its settings are below sysctl.
func forbidden(sysctl string) error {
	for _, name := range []string{"user/max_user_namespaces", "kernel/unprivileged_userns_clone"} {
		data, err := os.ReadFile(filepath.Join(sysctl, name))
		if err == nil && strings.TrimSpace(string(data)) == "0" {
			return &SetupError{Lacks: UserNamespaces, Setting: strings.ReplaceAll(name, "/", ".")}
		}
	}
	// Without new privileges, newuidmap cannot do its work.
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set == 1 {
		return &SetupError{Lacks: Privileges}
	}
	return nil
}

// subIDs returns a *SetupError unless the user has enough ids in /etc/subuid and /etc/subgid, or in the output of
// getsubids, which knows other databases.
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

// idsTime bounds the run of getsubids, which may query a directory service over the network.
const idsTime = 5 * time.Second

// askIDs returns the output of getsubids, which is empty if it fails or times out. It fails if there are no ids.
func askIDs(getsubids string, ask ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), idsTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, getsubids, ask...)
	cmd.WaitDelay = time.Second // its children may keep its output open
	out, _ := cmd.Output()
	return string(out)
}

// idRange is a line of /etc/subuid or /etc/subgid; see subuid(5).
type idRange struct {
	owner        string // name or number
	start, count int
}

// idRanges returns the valid lines. newuidmap ignores the others, too.
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

// freeIDs returns the start of the first free range of usualIDs.
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

// listedIDs returns the number of ids in the output of getsubids, whose lines are INDEX: NAME START COUNT.
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

// network returns the network of the daemon. In a network of its own, steps can listen on any port, as they can with
// root's daemon, but they cannot reach this machine's loopback, where a registry in the configuration may be.
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

// tunnel returns an error if this user may not make network devices.
func tunnel() error {
	f, err := os.OpenFile(tunDev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// loopback reports whether the configuration names a registry on this machine's loopback.
func (c settings) loopback() bool {
	for name, r := range c.Registry {
		if slices.ContainsFunc(append(r.Mirrors, name), isLoopback) {
			return true
		}
	}
	return false
}

// isLoopback reports whether a registry, HOST[:PORT][/PATH], is on this machine's loopback.
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

// flags returns the arguments of rootlesskit before the program that it runs.
func (r *rootless) flags(d rootDir) []string {
	flags := []string{
		"--state-dir", d.kit(),
		"--net", r.Network,
		// Whichever process is killed, the kernel ends all processes below it.
		"--pidns",
	}
	if r.Network != "host" {
		// The network has a resolv.conf of its own.
		flags = append(flags, "--copy-up=/etc", "--disable-host-loopback")
	}
	return flags
}
