package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/docker"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
)

// sessionFlags are flags that the look-up of a source may need.
func sessionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "secret", Usage: "a secret for RUN --mount=type=secret and for git: `id=ID[,src=FILE|,env=NAME]`"},
		&cli.StringSliceFlag{Name: "ssh", Usage: "an ssh agent or keys for RUN --mount=type=ssh and for git: `default|ID[=SOCKET|KEY[,KEY]]`"},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"D"}, Usage: "print details of warnings and errors"},
	}
}

// solveFlags say how BuildKit runs the steps.
func solveFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "add-host", Usage: "a line of /etc/hosts in RUN: `NAME:IP`, or NAME:host-gateway"},
		&cli.StringSliceFlag{Name: "allow", Usage: "allow an `ENTITLEMENT`: network.host, security.insecure, device, or buildx.local.delete for mode=delete"},
		&cli.StringSliceFlag{Name: "cache-from", Usage: "also take steps from the cache `REF|type=TYPE,KEY=VALUE`"},
		&cli.StringSliceFlag{Name: "cache-to", Usage: "also write steps to the cache `REF|type=TYPE,KEY=VALUE`"},
		&cli.StringFlag{Name: "cgroup-parent", Usage: "the parent `CGROUP` of RUN"},
		&cli.StringSliceFlag{Name: "label", Usage: "set a label of the image, `NAME=VALUE`"},
		&cli.StringFlag{Name: "network", Value: "default", Usage: "the `NETWORK` of RUN: default, none or host"},
		&cli.StringSliceFlag{Name: "no-cache-filter", Usage: "take no step of the `STAGE` from a cache"},
		&cli.StringSliceFlag{Name: "resource", Usage: "limit a RUN, `NAME=VALUE`: memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems"},
		&cli.BoolFlag{Name: "pull", Usage: "print which tags have moved since they were locked; the build uses the locked images"},
		&cli.StringFlag{Name: "shm-size", Usage: "the `SIZE` of /dev/shm in RUN, such as 128m"},
		&cli.StringSliceFlag{Name: "ulimit", Usage: "a ulimit of RUN, `TYPE=SOFT[:HARD]`"},

		policyFlag(),

		// Flags that docker still accepts and ignores.
		&cli.BoolFlag{Name: "rm", Hidden: true, Value: true},
		&cli.BoolFlag{Name: "force-rm", Hidden: true},
		&cli.BoolFlag{Name: "compress", Hidden: true},
		&cli.BoolFlag{Name: "squash", Hidden: true},
		&cli.StringFlag{Name: "isolation", Hidden: true},
		&cli.StringSliceFlag{Name: "security-opt", Hidden: true},
	}
	for _, r := range resources {
		flags = append(flags, &cli.StringFlag{Name: r.name, Aliases: r.short, Hidden: true})
	}
	return flags
}

// stepFlags are those of solveFlags that steps may need to run at all.
func stepFlags() []cli.Flag {
	needed := []string{"add-host", "allow", "network", "shm-size", "ulimit"}
	return slices.DeleteFunc(solveFlags(), func(f cli.Flag) bool { return !slices.Contains(needed, f.Names()[0]) })
}

// ignored are flags of docker's old builder that have no effect, with the reason or what replaces them.
var ignored = map[string]string{
	"isolation":    "BuildKit has no choice of isolation",
	"security-opt": "RUN --security=insecure is BuildKit's way",
	"squash":       "several stages in the Dockerfile keep layers out of the image",
}

// resources are the limits of --resource. Each is also a flag of its own.
var resources = []struct {
	name, option string // the names in docker and in BuildKit's frontend
	short        []string
	parse        func(string) (int64, error) // nil for a text that BuildKit checks
}{
	{"memory", "memory", []string{"m"}, units.RAMInBytes},
	{"memory-swap", "memswap", nil, swapInBytes},
	{"cpu-shares", "cpushares", []string{"c"}, parseInt},
	{"cpu-period", "cpuperiod", nil, parseInt},
	{"cpu-quota", "cpuquota", nil, parseInt},
	{"cpuset-cpus", "cpusetcpus", nil, nil},
	{"cpuset-mems", "cpusetmems", nil, nil},
}

func parseInt(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}

// swapInBytes parses a size, or -1 for no limit.
func swapInBytes(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	return units.RAMInBytes(s)
}

// settings reads the flags that are passed on to BuildKit.
func (p *process) settings(c *cli.Context, auth *configfile.ConfigFile) (s builder.Settings, err error) {
	if s.Secrets, err = p.secrets(c.Context, given(c, "secret")); err != nil {
		return s, err
	}
	if err = p.ssh(c.Context, &s, given(c, "ssh"), c.Args().First()); err != nil {
		return s, err
	}
	s.Proxies = p.proxies(auth)
	for _, name := range slices.Sorted(maps.Keys(ignored)) {
		if c.IsSet(name) {
			p.say("warning: --%s changes nothing: %s", name, ignored[name])
		}
	}
	if s.CacheFrom, err = p.caches("cache-from", c.StringSlice("cache-from")); err != nil {
		return s, err
	}
	if s.CacheTo, err = p.caches("cache-to", c.StringSlice("cache-to")); err != nil {
		return s, err
	}
	switch network := c.String("network"); network {
	case "", "default":
	case "none", "host":
		s.Network = network
	default:
		return s, usagef("network %q is not default, none or host; other networks belong to the builder", network)
	}
	if s.Hosts, err = hosts(given(c, "add-host")); err != nil {
		return s, err
	}
	if s.Allow, err = allowed(c.StringSlice("allow")); err != nil {
		return s, err
	}
	if size := c.String("shm-size"); c.IsSet("shm-size") {
		if s.ShmSize, err = units.RAMInBytes(size); err != nil {
			return s, usagef("shm-size %q is not a size such as 128m", size)
		}
	}
	if s.Ulimits, err = ulimits(c.StringSlice("ulimit")); err != nil {
		return s, err
	}
	s.CgroupParent = c.String("cgroup-parent")
	if s.Resources, err = limits(c); err != nil {
		return s, err
	}
	s.NoCacheStages = c.StringSlice("no-cache-filter")
	if c.Bool("no-cache") && len(s.NoCacheStages) > 0 {
		return s, usagef("--no-cache is for all stages, and --no-cache-filter for some: give one of the two")
	}
	s.Labels, err = labels(c.StringSlice("label"))
	return s, err
}

// allowDelete is the entitlement of an output to delete files in a folder that is not below the current one.
const allowDelete = "buildx.local.delete"

// allowed reads --allow.
func allowed(values []string) ([]string, error) {
	var all []string
	for _, allow := range values {
		if allow == "" || allow == allowDelete {
			continue // for outputs, not for BuildKit
		}
		if strings.HasPrefix(allow, allowDelete+"=") {
			return nil, usagef("%s does not accept a value", allowDelete) // in buildx's words
		}
		if _, _, err := entitlements.Parse(allow); err != nil {
			return nil, usagef("allow %q is not network.host, security.insecure or device", allow)
		}
		all = append(all, allow)
	}
	return all, nil
}

// labels reads --label.
func labels(values []string) (map[string]string, error) {
	all := map[string]string{}
	for _, label := range values {
		name, value, _ := strings.Cut(label, "=")
		if name == "" {
			return nil, usagef("--label: invalid key-value pair %q: empty key", label)
		}
		all[name] = value
	}
	return all, nil
}

// secrets reads --secret. An id alone names an environment variable or else a file. No error repeats a value,
// which may be the secret itself by mistake.
func (p *process) secrets(ctx context.Context, values []string) (builder.Secrets, error) {
	all := builder.Secrets{}
	for _, value := range values {
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			return nil, usagef("secret: %v", err)
		}
		var id, kind, file, env string
		for i, field := range fields {
			key, v, ok := strings.Cut(field, "=")
			switch key = strings.ToLower(key); {
			case ok && key == "id":
				id = v
			case ok && (key == "src" || key == "source"):
				file = v
			case ok && key == "env":
				env = v
			case ok && key == "type" && (v == "file" || v == "env"):
				kind = v
			case ok:
				return nil, usagef("secret: %q is not id=ID, src=FILE, env=NAME or type=file|env", key)
			default:
				return nil, usagef("secret: part %d is not id=ID, src=FILE, env=NAME or type=file|env", i+1)
			}
		}
		if id == "" {
			return nil, usagef("secret has no id=ID")
		}
		if kind == "env" && env == "" {
			env, file = file, ""
		}
		if env == "" && file == "" {
			if _, ok := p.env[id]; ok {
				env = id
			} else {
				file = id
			}
		}
		if env != "" {
			all[id] = builder.Secret{Value: []byte(p.env[env])}
			continue
		}
		if all[id], err = builder.FileSecret(ctx, file); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, usagef("secret %q: %v", id, err)
		}
	}
	return all, nil
}

// ssh reads --ssh. If git fetches the context over ssh, the default agent is added.
func (p *process) ssh(ctx context.Context, s *builder.Settings, values []string, source string) error {
	if url, err := gitutil.ParseURL(source); len(values) == 0 && err == nil && url.Scheme == gitutil.SSHProtocol {
		values = []string{"default"}
	}
	var agents []sshprovider.AgentConfig
	for _, value := range values {
		id, paths, ok := strings.Cut(value, "=")
		agent := sshprovider.AgentConfig{ID: id}
		if ok && paths != "" {
			agent.Paths = strings.Split(paths, ",")
		} else if socket := p.env["SSH_AUTH_SOCK"]; socket != "" {
			agent.Paths = []string{socket}
		} else {
			return usagef("ssh %q: no agent: SSH_AUTH_SOCK is not set; start one, or name a key: --ssh %s=FILE", value, value)
		}
		agents = append(agents, agent)
	}
	if len(agents) == 0 {
		return nil
	}
	var err error
	if s.SSH, err = builder.SSHAgents(ctx, agents); err != nil && ctx.Err() != nil {
		return err
	} else if err != nil {
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			err = file // without what was done with it, which is said three times
		}
		return usagef("ssh %q: %v", strings.Join(values, " "), err)
	}
	return nil
}

// proxies returns the proxy args of docker's configuration as docker build does: those for the Engine of the
// current context, whichever builder is used, or else the default ones.
func (p *process) proxies(auth *configfile.ConfigFile) map[string]string {
	config := auth.Proxies["default"]
	if ep, err := docker.New(p.env).Endpoint(""); err == nil {
		if own, ok := auth.Proxies[ep.DaemonHost()]; ok {
			config = own
		}
	}
	set := map[string]string{
		"HTTP_PROXY": config.HTTPProxy, "HTTPS_PROXY": config.HTTPSProxy, "NO_PROXY": config.NoProxy, "FTP_PROXY": config.FTPProxy,
	}
	maps.DeleteFunc(set, func(_, value string) bool { return value == "" })
	return set
}

// caches reads --cache-from and --cache-to. No error repeats a value, which may hold a key to the cache.
func (p *process) caches(flag string, values []string) ([]client.CacheOptionsEntry, error) {
	var all []client.CacheOptionsEntry
	for _, value := range values {
		if value == "" {
			continue
		}
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			return nil, usagef("%s: %v", flag, err)
		}
		if !strings.Contains(value, "=") {
			for _, ref := range fields {
				all = append(all, client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
			}
			continue
		}
		entry := client.CacheOptionsEntry{Attrs: map[string]string{}}
		for i, field := range fields {
			key, v, ok := strings.Cut(field, "=")
			if !ok {
				return nil, usagef("%s: part %d is not KEY=VALUE", flag, i+1)
			}
			if key = strings.ToLower(key); key == "type" {
				entry.Type = v
			} else {
				entry.Attrs[key] = v
			}
		}
		if entry.Type == "inline" && flag == "cache-to" {
			p.leaveOutInline("--cache-to type=inline")
			continue
		}
		if err := checkCache(flag, entry); err != nil {
			return nil, err
		}
		if p.credit(entry) {
			all = append(all, entry)
		}
	}
	return all, nil
}

func checkCache(flag string, entry client.CacheOptionsEntry) error {
	needs := map[string]string{"registry": "ref", "local": "src"}
	if flag == "cache-to" {
		needs["local"] = "dest"
	}
	switch entry.Type {
	case "registry", "local", "gha", "s3", "azblob":
	default:
		return usagef("%s: type=%s is not registry, local, gha, s3 or azblob", flag, entry.Type)
	}
	if key := needs[entry.Type]; key != "" && entry.Attrs[key] == "" {
		return usagef("%s: type=%s has no %s=", flag, entry.Type, key)
	}
	return nil
}

// leaveOutInline warns that the build goes on without an inline cache: scripts for docker often ask for one.
func (p *process) leaveOutInline(what string) {
	p.say("warning: %s is left out: an inline cache is part of the image, and would change it from build to build; --cache-to type=registry,ref=REF,mode=max keeps a cache beside it", what)
}

// credit adds the credentials for a cache from the environment of a CI job, as docker does. It reports whether
// the cache can be used.
func (p *process) credit(entry client.CacheOptionsEntry) bool {
	add := func(key string, names ...string) {
		for _, name := range names {
			if value := p.env[name]; entry.Attrs[key] == "" && value != "" {
				entry.Attrs[key] = value
			}
		}
	}
	switch entry.Type {
	case "gha":
		add("token", "ACTIONS_RUNTIME_TOKEN")
		version := entry.Attrs["version"]
		if v2, err := strconv.ParseBool(p.env["ACTIONS_CACHE_SERVICE_V2"]); version == "" && err == nil && v2 {
			version = "2"
		}
		if version == "2" {
			add("url_v2", "ACTIONS_RESULTS_URL")
		}
		add("url", "ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL")
		if entry.Attrs["token"] == "" || entry.Attrs["url"] == "" && entry.Attrs["url_v2"] == "" {
			p.say("warning: the cache type=gha is not used: it needs a GitHub job's ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL")
			return false
		}
	case "s3":
		if entry.Attrs["access_key_id"] == "" || entry.Attrs["secret_access_key"] == "" {
			add("access_key_id", "AWS_ACCESS_KEY_ID")
			add("secret_access_key", "AWS_SECRET_ACCESS_KEY")
			add("session_token", "AWS_SESSION_TOKEN")
		}
	}
	return true
}

// hosts reads --add-host.
func hosts(values []string) ([]string, error) {
	var all []string
	for _, value := range values {
		entries, err := csvvalue.Fields(value, nil)
		if err != nil {
			return nil, usagef("add-host %q: %v", value, err)
		}
		for _, entry := range entries {
			host, ip, ok := strings.Cut(entry, "=")
			if !ok {
				host, ip, ok = strings.Cut(entry, ":")
			}
			if len(ip) > 2 && ip[0] == '[' && ip[len(ip)-1] == ']' {
				ip = ip[1 : len(ip)-1]
			}
			if !ok || host == "" || ip != "host-gateway" && net.ParseIP(ip) == nil {
				return nil, usagef("add-host %q is not NAME:IP or NAME:host-gateway", entry)
			}
			all = append(all, host+"="+ip)
		}
	}
	return all, nil
}

// ulimits reads --ulimit. For each type the last one counts.
func ulimits(values []string) ([]string, error) {
	last := map[string]string{}
	for _, value := range values {
		u, err := units.ParseUlimit(value)
		if err != nil {
			return nil, usagef("ulimit %q: %v", value, err)
		}
		last[u.Name] = u.String()
	}
	return slices.Sorted(maps.Values(last)), nil
}

// limits reads --resource, which overrides the flags of docker's old builder.
func limits(c *cli.Context) (map[string]string, error) {
	var values []string
	for _, r := range resources {
		if c.IsSet(r.name) {
			values = append(values, r.name+"="+c.String(r.name))
		}
	}
	all := map[string]string{}
	for _, value := range append(values, c.StringSlice("resource")...) {
		name, v, ok := strings.Cut(value, "=")
		name, v = strings.TrimSpace(name), strings.TrimSpace(v)
		found := false
		for _, r := range resources {
			if r.name != name || !ok {
				continue
			}
			found = true
			if r.parse == nil {
				all[r.option] = v
				continue
			}
			n, err := r.parse(v)
			if err != nil {
				return nil, usagef("resource %q: %v", value, err)
			}
			delete(all, r.option)
			if n > 0 || n < 0 && name == "memory-swap" {
				all[r.option] = strconv.FormatInt(n, 10)
			}
		}
		if !found {
			return nil, usagef("resource %q is not NAME=VALUE with memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems", value)
		}
	}
	return all, nil
}
