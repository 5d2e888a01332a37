package builder

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
)

func (s *solve) options() (client.SolveOpt, error) {
	if err := s.publishable(); err != nil {
		return client.SolveOpt{}, err
	}
	mounts := map[string]fsutil.FS{}
	for name, dir := range s.req.Directories() {
		fs, err := fsutil.NewFS(dir)
		if err != nil {
			return client.SolveOpt{}, fmt.Errorf("opening build context %q: %w", dir, err)
		}
		mounts[name] = fs
		s.times.modes[name] = newModes(s.req.Tracked[dir])
	}
	if s.req.Context == (Context{}) {
		mounts["context"] = memory{}
	}
	switch d := s.req.Dockerfile; {
	case d.Path != "":
		dir, err := fsutil.NewFS(filepath.Dir(d.Path))
		if err != nil {
			return client.SolveOpt{}, fmt.Errorf("opening the folder of %q: %w", d.Path, err)
		}
		mounts["dockerfile"] = dir
	case d.alone():
		mounts["dockerfile"] = memory{"Dockerfile": d.Data}
	}
	s.times.setEpoch(s.epoch)
	key := s.req.Context.URL
	if dir := s.req.Context.Dir; dir != "" {
		var err error
		if key, err = filepath.Abs(dir); err != nil {
			return client.SolveOpt{}, err
		}
	}
	attachables := []session.Attachable{}
	if a := s.req.Context.Archive; a != nil {
		attachables = append(attachables, uploads{a})
	}
	if s.req.Auth != nil {
		attachables = append(attachables, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
			AuthConfigProvider: authprovider.LoadAuthConfig(s.req.Auth),
		}))
	}
	opt := client.SolveOpt{
		LocalMounts:          mounts,
		LocalFilterOpt:       s.times.filter(mounts, s.leaves()),
		SharedKey:            "kedge:" + digest.FromString(key).Encoded(),
		OCIStores:            s.req.layouts(),
		FrontendAttrs:        s.daemonOptions(),
		Session:              attachables,
		SourcePolicyProvider: policysession.NewPolicyProvider(s.pins.check),
		Internal:             s.internal,
	}
	s.settings.session(&opt)
	return opt, nil
}

// daemonOptions are what of the frontend's options the daemon itself looks at.
func (s *solve) daemonOptions() map[string]string {
	opts := map[string]string{}
	if len(s.req.Platforms) > 0 {
		opts["platform"] = strings.Join(s.req.Platforms, ",") // it warns where the image is for others
	}
	s.attestOptions(opts)
	return opts
}

// leaves returns what says of a path in a mount that it is one of s.req.Leave, or the file beside it
// that becomes it.
func (s *solve) leaves() func(mount, path string) bool {
	dirs := map[string]string{}
	for mount, dir := range s.req.Directories() {
		dirs[mount] = realPath(dir)
	}
	return func(mount, path string) bool {
		dir, ok := dirs[mount]
		return ok && slices.ContainsFunc(s.req.Leave, func(leave string) bool {
			folder, name := realPath(filepath.Dir(leave)), filepath.Base(leave)
			if filepath.Dir(filepath.Join(dir, path)) != folder {
				return false
			}
			return filepath.Base(path) == name || strings.HasPrefix(filepath.Base(path), "."+name+".")
		})
	}
}

// realPath returns the path of a folder without symbolic links, as far as it can tell.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

// frontendOptions are the options of BuildKit's Dockerfile frontend.
func (s *solve) frontendOptions() map[string]string {
	opts := map[string]string{"target": s.req.Target}
	switch c := s.req.Context; {
	case c.URL != "":
		opts["context"] = c.URL
	case c.Archive != nil:
		opts["context"] = c.Archive.uploadURL(s.epoch, false)
	}
	switch d := s.req.Dockerfile; {
	case d.Inside != "":
		opts["filename"] = d.Inside
	case d.Path != "":
		opts["filename"], opts["dockerfilekey"] = filepath.Base(d.Path), "dockerfile"
	default:
		opts["filename"], opts["dockerfilekey"] = "Dockerfile", "dockerfile"
	}
	if len(s.req.Platforms) > 0 {
		opts["platform"] = strings.Join(s.req.Platforms, ",")
	}
	for k, v := range s.req.Args {
		opts["build-arg:"+k] = v
	}
	if !s.epoch.IsZero() {
		opts["build-arg:SOURCE_DATE_EPOCH"] = strconv.FormatInt(s.epoch.Unix(), 10)
	}
	for name, c := range s.req.Contexts {
		opts["context:"+name] = c.option("context-" + name)
	}
	if caps := s.req.frontendCaps(); len(caps) > 0 {
		opts["frontend.caps"] = strings.Join(caps, ",")
	}
	s.settings.frontend(opts, s.req.Args)
	if s.req.NoCache {
		opts["no-cache"] = ""
	}
	if s.salt != 0 {
		// Cache mounts of its own: a verification neither uses nor prunes the user's.
		const key = "build-arg:BUILDKIT_CACHE_MOUNT_NS"
		opts[key] = s.cacheNamespace() + opts[key]
	}
	return opts
}

// option returns what the frontend takes for a named context, whose mount it is where it is a folder.
func (c Context) option(mount string) string {
	switch {
	case c.Image != "":
		return "docker-image://" + c.Image
	case c.Layout != nil:
		return "oci-layout://" + c.Layout.id() + "@" + c.Layout.Digest.String()
	case c.URL != "":
		return c.URL
	}
	return "local:" + mount
}

// frontendCaps returns what a frontend must know, so that one that does not says so, in place of building
// something else: forward means also one that the Dockerfile names.
func (r *Request) frontendCaps() []string {
	query := strings.Contains(r.Context.URL, "?") && r.Context.Git()
	for _, c := range r.Contexts {
		query = query || strings.Contains(c.URL, "?") && c.Git()
	}
	var caps []string
	if len(r.Contexts) > 0 {
		caps = append(caps, "moby.buildkit.frontend.contexts+forward")
	}
	if query {
		caps = append(caps, "moby.buildkit.frontend.gitquerystring+forward")
	}
	return caps
}

func (s *solve) cacheNamespace() string { return fmt.Sprintf("kedge-%d-", s.salt) }
