package builder

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
)

// options returns what the daemon may ask this machine for in a session. Files are read ahead until ctx
// ends.
func (j *job) options(ctx context.Context) (client.SolveOpt, error) {
	if err := j.publishable(); err != nil {
		return client.SolveOpt{}, err
	}
	if err := j.req.checkIgnore(); err != nil {
		return client.SolveOpt{}, err
	}
	if err := j.settings.checkCaches(); err != nil {
		return client.SolveOpt{}, err
	}
	mounts := map[string]fsutil.FS{}
	for name, dir := range j.req.Directories() {
		fs, err := newFolder(dir)
		if err != nil {
			return client.SolveOpt{}, fmt.Errorf("opening build context %q: %w", dir, err)
		}
		fs = fs.withPlainGit(j.req.KeepModes, j.times.seconds)
		if !j.req.PlainGit {
			fs.git.Leave("the rule context-git is off, so that it stays as it is")
		}
		j.folders[name], mounts[name] = fs, fs
		j.times.modes[name] = newModes(j.req.Tracked[dir])
	}
	if j.req.Context == (Context{}) {
		mounts["context"] = memory{}
	}
	switch d := j.req.Dockerfile; {
	case d.Path != "":
		dir, err := newFolder(filepath.Dir(d.Path))
		if err != nil {
			return client.SolveOpt{}, fmt.Errorf("opening the folder of %q: %w", d.Path, err)
		}
		mounts["dockerfile"] = dir
	case d.alone():
		mounts["dockerfile"] = memory{"Dockerfile": d.Data}
	}
	j.times.setEpoch(j.epoch)
	key := j.req.Context.URL
	if dir := j.req.Context.Dir; dir != "" {
		var err error
		if key, err = filepath.Abs(dir); err != nil {
			return client.SolveOpt{}, err
		}
	}
	attachables := []session.Attachable{}
	if a := j.req.Context.Archive; a != nil {
		attachables = append(attachables, uploads{a})
	}
	if j.req.Auth != nil {
		attachables = append(attachables, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
			AuthConfigProvider: authprovider.LoadAuthConfig(j.req.Auth),
		}))
	}
	opt := client.SolveOpt{
		LocalMounts:          mounts,
		LocalFilterOpt:       j.times.filter(ctx, mounts, j.leaves()),
		SharedKey:            "kedge:" + digest.FromString(key).Encoded(),
		OCIStores:            j.stores(),
		FrontendAttrs:        j.daemonOptions(),
		Session:              attachables,
		SourcePolicyProvider: policysession.NewPolicyProvider(j.pins.check),
		Internal:             j.internal,
	}
	j.settings.session(&opt, j.downloads)
	return opt, nil
}

// daemonOptions returns those of the frontend's options that the daemon itself reads.
func (j *job) daemonOptions() map[string]string {
	opts := map[string]string{}
	if len(j.req.Platforms) > 0 {
		opts["platform"] = strings.Join(j.req.Platforms, ",") // without it, the daemon warns about other platforms
	}
	j.attestOptions(opts)
	return opts
}

// leaves returns a function that reports whether a path in a mount is in j.req.Leave, below a folder in it, or the
// temporary file that replaces one of those.
func (j *job) leaves() func(mount, path string) bool {
	type left struct{ path, below, temporary string }
	inMount := map[string][]left{}
	for mount, dir := range j.req.Directories() {
		for _, path := range j.req.Leave {
			path, err := filepath.Rel(realPath(dir), filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path)))
			if err == nil && filepath.IsLocal(path) {
				folder, name := filepath.Split(path)
				inMount[mount] = append(inMount[mount], left{path, path + string(filepath.Separator), folder + "." + name + "."})
			}
		}
	}
	return func(mount, path string) bool {
		return slices.ContainsFunc(inMount[mount], func(l left) bool {
			return path == l.path || strings.HasPrefix(path, l.below) || strings.HasPrefix(path, l.temporary)
		})
	}
}

// realPath returns the absolute path of a folder without symlinks, or path if that fails.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

// frontendOptions returns the options of BuildKit's Dockerfile frontend.
func (j *job) frontendOptions() map[string]string {
	opts := map[string]string{"target": j.req.Target, frontend.ClientLocks: "true"}
	switch c := j.req.Context; {
	case c.URL != "":
		opts["context"] = c.URL
	case c.Archive != nil:
		opts["context"] = c.Archive.uploadURL(j.epoch, false)
	}
	opts["filename"] = j.req.Dockerfile.filename()
	if j.req.Dockerfile.Inside == "" {
		opts["dockerfilekey"] = "dockerfile"
	}
	if len(j.req.Platforms) > 0 {
		opts["platform"] = strings.Join(j.req.Platforms, ",")
	}
	for k, v := range j.req.Args {
		opts["build-arg:"+k] = v
	}
	if !j.epoch.IsZero() && !j.req.StageEpoch {
		opts["build-arg:SOURCE_DATE_EPOCH"] = strconv.FormatInt(j.epoch.Unix(), 10)
	}
	for name, c := range j.req.Contexts {
		opts["context:"+name] = c.option("context-" + name)
	}
	j.locals.options(opts)
	if caps := j.frontendCaps(); len(caps) > 0 {
		opts["frontend.caps"] = strings.Join(caps, ",")
	}
	j.settings.frontend(opts, j.req.Args)
	if j.req.NoCache {
		opts["no-cache"] = ""
	}
	if j.pass.IsSecond() {
		// Cache mounts of its own, so that a verification neither uses nor prunes the user's.
		const key = "build-arg:BUILDKIT_CACHE_MOUNT_NS"
		opts[key] = j.pass.cacheNamespace() + opts[key]
	}
	return opts
}

// option returns the frontend's option for a named context. mount is the name of its mount if it is a
// folder.
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

// frontendCaps returns the features that the frontend must have. A frontend without one then fails
// instead of building something else. "+forward" applies it to a frontend that the Dockerfile names.
func (j *job) frontendCaps() []string {
	r := j.req
	query := strings.Contains(r.Context.URL, "?") && r.Context.Git()
	for _, c := range r.Contexts {
		query = query || strings.Contains(c.URL, "?") && c.Git()
	}
	var caps []string
	if len(r.Contexts)+len(j.locals.all()) > 0 {
		caps = append(caps, "moby.buildkit.frontend.contexts+forward")
	}
	if query {
		caps = append(caps, "moby.buildkit.frontend.gitquerystring+forward")
	}
	return caps
}
