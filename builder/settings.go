package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Settings control how steps run and what they may use. They change nothing of the image but its
// labels. The zero value leaves BuildKit's defaults. Only provenance with mode=max, which BuildKit
// writes, records them.
type Settings struct {
	Secrets Secrets
	SSH     session.Attachable // agents and keys; nil for none

	// CacheFrom and CacheTo are caches in addition to the builder's own. A second build uses none.
	CacheFrom, CacheTo []client.CacheOptionsEntry
	NoCacheStages      []string // stages that are always built again

	Network      string   // default of RUN: none, host, or empty for the builder's
	Hosts        []string // NAME=IP, or NAME=host-gateway for the builder's host
	Allow        []string // entitlements, such as security.insecure
	ShmSize      int64    // of /dev/shm, in bytes; 0 for the builder's default
	Ulimits      []string // TYPE=SOFT:HARD
	CgroupParent string
	Resources    map[string]string // limits of each step, by the name of the frontend's option

	Labels map[string]string
	// Proxies are this machine's proxy args. Only RUN steps see them, and a build arg overrides them.
	Proxies map[string]string
}

// Secrets are the secrets that RUN steps can mount, by id.
type Secrets map[string]Secret

// Secret is a file, which is read when a step needs it, or a value.
type Secret struct {
	File  string // if empty, the secret is Value
	Value []byte
}

// FileSecret returns the secret in the file at path. It reads a pipe now, since that works only once, and waits for its
// other end until ctx is done.
func FileSecret(ctx context.Context, path string) (Secret, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Secret{}, err
	}
	tooLarge := fmt.Errorf("%q is not a file of at most %s", path, units.BytesSize(secretsprovider.MaxSecretSize))
	if info.IsDir() || info.Size() > secretsprovider.MaxSecretSize {
		return Secret{}, tooLarge
	}
	if info.Mode().IsRegular() {
		return Secret{File: path}, nil
	}
	value, err := wholefile.ReadPipe(ctx, path, secretsprovider.MaxSecretSize)
	if errors.As(err, new(*wholefile.TooLargeError)) {
		err = tooLarge
	}
	return Secret{Value: value}, err
}

// SSHAgents returns what serves agents and keys to RUN steps. It waits for the other end of a pipe until ctx is done.
func SSHAgents(ctx context.Context, agents []sshprovider.AgentConfig) (session.Attachable, error) {
	return wholefile.Await(ctx, func() (session.Attachable, error) { return sshprovider.NewSSHAgentProvider(agents) })
}

// GetSecret implements secrets.SecretStore.
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

// EntitlementError says that a step needs an entitlement that was not allowed.
type EntitlementError struct {
	Where       string // a line of the Dockerfile
	Entitlement string
}

func (e *EntitlementError) Error() string {
	return fmt.Sprintf("%s: RUN needs the entitlement %s", e.Where, e.Entitlement)
}

// RefusedError says that the builder does not grant entitlements that the build was allowed.
type RefusedError struct {
	Entitlements []string
	Own          bool // it is kedge's own builder
	Err          error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the builder refuses %s: %v", strings.Join(e.Entitlements, ", "), e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// GatewayError says that the builder does not know its host's address, which Host needs.
type GatewayError struct{ Host string }

func (e *GatewayError) Error() string {
	return fmt.Sprintf("host %q: host-gateway is not supported by the builder, which does not know the address", e.Host)
}

// CacheError says that the builder does not support a type of cache.
type CacheError struct{ Type string }

func (e *CacheError) Error() string {
	return fmt.Sprintf("the builder has no cache of type %q", e.Type)
}

// allowed returns the entitlements, including the one that Network needs.
func (s Settings) allowed() []string {
	host := entitlements.EntitlementNetworkHost.String()
	if s.Network == "host" && !slices.Contains(s.Allow, host) {
		return append(slices.Clone(s.Allow), host)
	}
	return s.Allow
}

// session adds to opt the settings of every session, even one that only looks up sources. d may be nil.
func (s Settings) session(opt *client.SolveOpt, d *downloads) {
	switch {
	case d != nil:
		opt.Session = append(opt.Session, secretsprovider.NewSecretProvider(stepSecrets{s.Secrets, d.replayer.CAPEM()}), newSockets(d, s.SSH))
	default:
		if len(s.Secrets) > 0 {
			opt.Session = append(opt.Session, secretsprovider.NewSecretProvider(s.Secrets))
		}
		if s.SSH != nil {
			opt.Session = append(opt.Session, s.SSH)
		}
	}
	opt.AllowedEntitlements = s.allowed()
}

// caches adds to opt the settings of a session that builds.
func (s Settings) caches(opt *client.SolveOpt) {
	opt.CacheImports, opt.CacheExports = clone(s.CacheFrom), clone(s.CacheTo)
}

// checkCaches returns an error for a cache in a folder whose index is no file, such as a pipe that BuildKit's client
// would wait for.
func (s Settings) checkCaches() error {
	for _, e := range slices.Concat(s.CacheFrom, s.CacheTo) {
		if e.Type != "local" {
			continue
		}
		f, _, err := wholefile.Open(filepath.Join(cmp.Or(e.Attrs["src"], e.Attrs["dest"]), ocispec.ImageIndexFile))
		if irregular := (*wholefile.NotRegularError)(nil); errors.As(err, &irregular) {
			return fmt.Errorf("reading the cache: %w", err)
		} else if err == nil {
			f.Close()
		}
	}
	return nil
}

// clone copies entries, since BuildKit's client changes them.
func clone(entries []client.CacheOptionsEntry) []client.CacheOptionsEntry {
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].Attrs = maps.Clone(entries[i].Attrs)
	}
	return entries
}

// imports returns those of the caches in Settings.CacheFrom that BuildKit's client found.
func imports(c gateway.Client) ([]gateway.CacheOptionsEntry, error) {
	list := c.BuildOpts().Opts["cache-imports"]
	if list == "" {
		return nil, nil
	}
	var found []gateway.CacheOptionsEntry
	if err := json.Unmarshal([]byte(list), &found); err != nil {
		return nil, fmt.Errorf("reading the caches to import: %w", err)
	}
	return found, nil
}

// frontend adds to opts the settings that BuildKit's Dockerfile frontend applies. A build arg in args
// overrides a proxy of the same name in any case.
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

// proxies returns the proxy args that args does not override.
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

// cacheCaps are the capabilities for types of cache that not every daemon supports.
var cacheCaps = map[string]apicaps.CapID{
	"gha": pb.CapRemoteCacheGHA, "s3": pb.CapRemoteCacheS3, "azblob": pb.CapRemoteCacheAzBlob,
}

// check returns an error if the daemon does not support a setting: a *CapabilityError or a *CacheError.
func (s Settings) check(have gateway.BuildOpts) error {
	if len(s.Resources) > 0 && have.LLBCaps.Supports(pb.CapExecMetaLinuxResources) != nil {
		return &CapabilityError{"limit the resources of a step", "v0.31"}
	}
	for _, cache := range slices.Concat(s.CacheFrom, s.CacheTo) {
		if needs, ok := cacheCaps[cache.Type]; ok && have.LLBCaps.Supports(needs) != nil {
			return &CacheError{Type: cache.Type}
		}
	}
	return nil
}

// resolveHosts returns entries of /etc/hosts, NAME=IP, in which the address of the daemon's host replaces
// host-gateway. local says that the daemon runs in this machine's network. If the address is not known, the
// error is a *GatewayError.
func resolveHosts(entries []string, workers []gateway.WorkerInfo, local bool) ([]string, error) {
	gatewayIP := hostGateway(workers, local)
	resolved := make([]string, len(entries))
	for i, entry := range entries {
		host, ip, _ := strings.Cut(entry, "=")
		if ip == "host-gateway" {
			if ip = gatewayIP; ip == "" {
				return nil, &GatewayError{Host: host}
			}
		}
		resolved[i] = host + "=" + ip
	}
	return resolved, nil
}

// hostGateway returns the address at which RUN steps reach the daemon's host, or "" if it is not known. An
// Engine reports it in a label. Steps in the network of the host reach the host at its loopback.
func hostGateway(workers []gateway.WorkerInfo, local bool) string {
	for _, w := range workers {
		if ip := w.Labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"]; ip != "" {
			return ip
		}
	}
	if local && len(workers) > 0 && workers[0].Labels[label.Network] == "host" {
		return "127.0.0.1"
	}
	return ""
}

// editHistory replaces each command of the history with what edit returns for it, in the configs of all
// platforms.
func editHistory(metadata map[string][]byte, edit func(by string) string) error {
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
			edited := edit(by)
			changed = changed || edited != by
			if by != "" {
				entry["created_by"] = edited
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

// forgetProxies returns a line of history as it would be on a machine without the proxies: a Dockerfile that
// declares them as ARG would put them there.
func forgetProxies(by string, proxies map[string]string) string {
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
