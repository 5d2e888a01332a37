package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/entitlements"
)

// Settings say how the steps of a build are run, and what they may use. Of the image they change nothing
// but its labels. The zero value is what BuildKit does by itself. What kedge writes has none of it; provenance
// of mode max, which BuildKit writes, says how each step was run.
type Settings struct {
	Secrets Secrets
	SSH     session.Attachable // agents and keys; nil for none

	// CacheFrom and CacheTo are caches besides the builder's own. The second build of a verification uses none.
	CacheFrom, CacheTo []client.CacheOptionsEntry
	NoCacheStages      []string // of which no step is taken from any cache

	Network      string   // of a RUN that does not say: none or host; empty for the builder's own
	Hosts        []string // NAME=IP, or NAME=host-gateway for the one that the builder says
	Allow        []string // entitlements, as security.insecure
	ShmSize      int64    // of /dev/shm, in bytes; 0 for the builder's own
	Ulimits      []string // TYPE=SOFT:HARD
	CgroupParent string
	Resources    map[string]string // limits of each step, by the name of the frontend's option

	Labels map[string]string
	// Proxies are proxy args of this machine: RUN steps see those that no build arg overrides, and nothing else does.
	Proxies map[string]string
}

// Secrets are what RUN steps can mount, by id.
type Secrets map[string]Secret

// Secret is a file, read when it is asked for, or a value.
type Secret struct {
	File  string // empty: Value
	Value []byte
}

// GetSecret makes Secrets a secrets.SecretStore.
func (s Secrets) GetSecret(_ context.Context, id string) ([]byte, error) {
	secret, ok := s[id]
	if !ok {
		return nil, fmt.Errorf("secret %q: %w", id, secrets.ErrNotFound)
	}
	if secret.File == "" {
		return secret.Value, nil
	}
	return os.ReadFile(secret.File)
}

// EntitlementError says that a build needs what nobody has allowed it.
type EntitlementError struct {
	Where       string // a line of the Dockerfile
	Entitlement string
}

func (e *EntitlementError) Error() string {
	return fmt.Sprintf("%s: RUN needs the entitlement %s", e.Where, e.Entitlement)
}

// RefusedError says that a builder does not grant what a build was allowed.
type RefusedError struct {
	Entitlements []string
	Own          bool // it is kedge's own builder
	Err          error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the builder refuses %s: %v", strings.Join(e.Entitlements, ", "), e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// GatewayError says that a builder does not know the address of the host that it runs on.
type GatewayError struct{ Host string }

func (e *GatewayError) Error() string {
	return fmt.Sprintf("host %q: the builder does not say what host-gateway is", e.Host)
}

// CacheError says that a builder lacks a kind of cache.
type CacheError struct{ Type string }

func (e *CacheError) Error() string {
	return fmt.Sprintf("the builder has no cache of type %q", e.Type)
}

// allowed returns the entitlements, with the one that the network asks for.
func (s Settings) allowed() []string {
	host := entitlements.EntitlementNetworkHost.String()
	if s.Network == "host" && !slices.Contains(s.Allow, host) {
		return append(slices.Clone(s.Allow), host)
	}
	return s.Allow
}

// session adds to opt what a build may use: also one that only looks things up.
func (s Settings) session(opt *client.SolveOpt) {
	if len(s.Secrets) > 0 {
		opt.Session = append(opt.Session, secretsprovider.NewSecretProvider(s.Secrets))
	}
	if s.SSH != nil {
		opt.Session = append(opt.Session, s.SSH)
	}
	opt.AllowedEntitlements = s.allowed()
}

// caches adds to opt the caches of a build.
func (s Settings) caches(opt *client.SolveOpt) {
	opt.CacheImports, opt.CacheExports = clone(s.CacheFrom), clone(s.CacheTo)
}

// clone copies what BuildKit's client writes into.
func clone(entries []client.CacheOptionsEntry) []client.CacheOptionsEntry {
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].Attrs = maps.Clone(entries[i].Attrs)
	}
	return entries
}

// imports returns the caches that BuildKit's client found, of those that it was given.
func imports(c gateway.Client) ([]gateway.CacheOptionsEntry, error) {
	said := c.BuildOpts().Opts["cache-imports"]
	if said == "" {
		return nil, nil
	}
	var found []gateway.CacheOptionsEntry
	if err := json.Unmarshal([]byte(said), &found); err != nil {
		return nil, fmt.Errorf("reading the caches to import: %w", err)
	}
	return found, nil
}

// frontend adds the options of BuildKit's Dockerfile frontend. args are the build args, which win over
// proxies whatever the case of their names.
func (s Settings) frontend(opts, args map[string]string) {
	set := func(name, value string) {
		if value != "" {
			opts[name] = value
		}
	}
	set("force-network-mode", s.Network)
	set("add-hosts", strings.Join(s.Hosts, ","))
	set("ulimit", strings.Join(s.Ulimits, ","))
	set("cgroup-parent", s.CgroupParent)
	set("no-cache", strings.Join(s.NoCacheStages, ","))
	if s.ShmSize > 0 {
		set("shm-size", strconv.FormatInt(s.ShmSize, 10))
	}
	maps.Copy(opts, s.Resources)
	for name, value := range s.Labels {
		opts["label:"+name] = value
	}
	for name, value := range s.proxies(args) {
		opts["build-arg:"+name] = value
	}
}

// proxies returns the proxy args that no build arg overrides.
func (s Settings) proxies(args map[string]string) map[string]string {
	left := maps.Clone(s.Proxies)
	maps.DeleteFunc(left, func(name, _ string) bool {
		for arg := range args {
			if strings.EqualFold(arg, name) {
				return true
			}
		}
		return false
	})
	return left
}

// cacheCaps are the kinds of cache that not every daemon has.
var cacheCaps = map[string]apicaps.CapID{
	"gha": pb.CapRemoteCacheGHA, "s3": pb.CapRemoteCacheS3, "azblob": pb.CapRemoteCacheAzBlob,
}

// check asks the daemon for what it may be too old for, or not be made for.
func (s *Settings) check(have gateway.BuildOpts) error {
	if len(s.Resources) > 0 && have.LLBCaps.Supports(pb.CapExecMetaLinuxResources) != nil {
		return &CapabilityError{"limit the resources of a step", "v0.31"}
	}
	for _, cache := range slices.Concat(s.CacheFrom, s.CacheTo) {
		if needs, ok := cacheCaps[cache.Type]; ok && have.LLBCaps.Supports(needs) != nil {
			return &CacheError{Type: cache.Type}
		}
	}
	hosts := make([]string, len(s.Hosts))
	for i, entry := range s.Hosts {
		host, ip, _ := strings.Cut(entry, "=")
		if ip == "host-gateway" {
			ip = ""
			for _, w := range have.Workers {
				if said := w.Labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"]; ip == "" {
					ip = said
				}
			}
			if ip == "" {
				return &GatewayError{Host: host}
			}
		}
		hosts[i] = host + "=" + ip
	}
	s.Hosts = hosts
	return nil
}

// forgetProxies takes the values of proxies that a Dockerfile declares as ARG out of the history, so that
// the image does not depend on the machine.
func forgetProxies(metadata map[string][]byte, proxies map[string]string) error {
	for key, data := range metadata {
		if key != exptypes.ExporterImageConfigKey && !strings.HasPrefix(key, exptypes.ExporterImageConfigKey+"/") {
			continue
		}
		var config map[string]json.RawMessage
		var history []map[string]any
		if err := json.Unmarshal(data, &config); err != nil {
			return fmt.Errorf("reading the image's config: %w", err)
		}
		if len(config["history"]) == 0 {
			continue
		}
		if err := json.Unmarshal(config["history"], &history); err != nil {
			return fmt.Errorf("reading the image's history: %w", err)
		}
		changed := false
		for _, entry := range history {
			by, _ := entry["created_by"].(string)
			forgotten := forgetIn(by, proxies)
			changed = changed || forgotten != by
			if by != "" {
				entry["created_by"] = forgotten
			}
		}
		if !changed {
			continue
		}
		var err error
		if config["history"], err = json.Marshal(history); err != nil {
			return err
		}
		if metadata[key], err = json.Marshal(config); err != nil {
			return err
		}
	}
	return nil
}

// forgetIn leaves of the proxies in a line of a history what is there where the machine has none.
func forgetIn(by string, proxies map[string]string) string {
	without := ""
	switch {
	case strings.HasPrefix(by, "RUN |"):
		without = "="
	case !strings.HasPrefix(by, "ARG "):
		return by
	}
	for name, value := range proxies {
		by = strings.ReplaceAll(by, " "+name+"="+value, " "+name+without)
	}
	return by
}
