package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
	"golang.org/x/net/http/httpproxy"
)

// downloadFlags say where the bodies of locked downloads come from.
func downloadFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cache-repo", Usage: "the `REGISTRY/REPO` that shares locked downloads (default: the record's)"},
		&cli.StringFlag{Name: "downloads-ca", Usage: "a `FILE` of certificate authorities to trust for downloads, beside the system's", EnvVars: []string{"KEDGE_DOWNLOADS_CA"}},
		&cli.StringFlag{Name: "downloads-archive", Usage: "the `URL` of an archive of Debian's packages", Value: network.DefaultArchive, EnvVars: []string{"KEDGE_DOWNLOADS_ARCHIVE"}},
	}
}

// offlineFlag is for the verbs that may download.
func offlineFlag() cli.Flag {
	return &cli.BoolFlag{Name: "offline", Usage: "use no network; if anything is missing, list it and stop"}
}

// readOffline reads --offline, and refuses what would leave this machine.
func readOffline(c *cli.Context, o *kedge.Options) error {
	if !c.Bool("offline") {
		return nil
	}
	o.Offline, o.Locked = true, true
	if c.Bool("push") || o.Pull {
		return usagef("--offline lets nothing leave this machine, and --push and --pull ask a registry")
	}
	for _, cache := range slices.Concat(o.CacheFrom, o.CacheTo) {
		if cache.Type != "local" {
			return usagef("--offline lets nothing leave this machine, and a cache of type %s is elsewhere", cache.Type)
		}
	}
	return nil
}

// lockfileFlags name a lockfile for verbs that need no build context.
func lockfileFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Value: "Dockerfile", Usage: "the Dockerfile: a `FILE`"},
		&cli.StringFlag{Name: "lockfile", Usage: "the lockfile `PATH` (default: DOCKERFILE.lock)"},
	}
}

func (p *process) openDownloads(c *cli.Context) (*network.Cache, error) {
	return network.OpenCache(c.Context, filepath.Join(p.dataDir(), "downloads"))
}

// lockedDownloads returns the record that the lockfile of c's flags names, and the path of its file.
func (p *process) lockedDownloads(c *cli.Context) (*network.Record, string, error) {
	lockfile := c.String("lockfile")
	if lockfile == "" {
		lockfile = lock.Path(c.String("file"))
	}
	f, _, err := lock.Read(lockfile)
	if err != nil {
		return nil, "", err
	}
	path, err := filepath.Abs(network.Path(lockfile))
	if err != nil {
		return nil, "", err
	}
	record, err := network.Read(path, f.Downloads)
	if err == nil && record == nil {
		err = &kedge.NoDownloadsError{Lockfile: lockfile}
	}
	return record, path, err
}

// networkOptions returns the options for the downloads of a record. The caller must close them.
func (p *process) networkOptions(c *cli.Context, cache *network.Cache, record *network.Record) (network.Options, func(), error) {
	o := network.Options{Record: record, Cache: cache, Offline: c.Bool("offline"), Archive: c.String("downloads-archive")}
	proxies := httpproxy.Config{
		HTTPProxy: p.either("HTTP_PROXY", "http_proxy"), HTTPSProxy: p.either("HTTPS_PROXY", "https_proxy"), NoProxy: p.either("NO_PROXY", "no_proxy"),
	}
	o.ProxyFor = proxies.ProxyFunc()
	var err error
	if o.CA, err = network.OpenCA(filepath.Join(p.dataDir(), "ca")); err != nil {
		return o, nil, err
	}
	if o.Roots, err = network.Roots(c.Context, c.String("downloads-ca")); err != nil {
		return o, nil, err
	}
	repo, err := p.cacheRepo(c, record)
	if err != nil || repo == nil {
		return o, func() {}, err
	}
	o.Repo = repo
	return o, repo.Close, nil
}

// cacheRepo returns the repository that shares the bodies of a record, or nil.
func (p *process) cacheRepo(c *cli.Context, record *network.Record) (*publish.Repo, error) {
	name := c.String("cache-repo")
	if name == "" {
		name = record.Repo()
	}
	if name == "" {
		return nil, nil
	}
	return publish.NewRepo(name, p.publishEnv(p.dockerConfig()).Credentials)
}

// sharedRepo returns what --cache-repo has a lock say; nil: as it is.
func sharedRepo(c *cli.Context) (*string, error) {
	if !c.IsSet("cache-repo") {
		return nil, nil
	}
	name := c.String("cache-repo")
	if name != "" {
		repo, err := publish.NewRepo(name, nil)
		if err != nil {
			return nil, err
		}
		defer repo.Close()
		name = repo.String()
	}
	return &name, nil
}

func (p *process) either(names ...string) string {
	for _, name := range names {
		if v := p.env[name]; v != "" {
			return v
		}
	}
	return ""
}

// servedDownloads are what builds need to serve the downloads of steps. It is opened with the first of them.
type servedDownloads struct {
	*process
	c       *cli.Context
	cache   *network.Cache
	release []func()
}

func (s *servedDownloads) open(_ context.Context, record *network.Record) (o network.Options, err error) {
	if s.cache == nil {
		if s.cache, err = s.openDownloads(s.c); err != nil {
			return o, err
		}
	}
	o, release, err := s.networkOptions(s.c, s.cache, record)
	if err == nil {
		s.release = append(s.release, release)
	}
	return o, err
}

func (s *servedDownloads) close() {
	for _, release := range s.release {
		release()
	}
	if s.cache != nil {
		s.cache.Close()
	}
}

// A downloadsValue is the value of --downloads: alone it means on.
type downloadsValue struct{ kedge.LockDownloads }

func (d *downloadsValue) IsBoolFlag() bool { return true }

func (d *downloadsValue) String() string { return "" }

func (d *downloadsValue) Set(s string) error {
	switch s {
	case "true", "on":
		d.LockDownloads = kedge.RecordDownloads
	case "false", "off":
		d.LockDownloads = kedge.DropDownloads
	default:
		return fmt.Errorf("%q is not on or off", s)
	}
	return nil
}

// tellDownloads tells how many downloads a lock has, and what steps asked for that no record can hold.
func (p *process) tellDownloads(l *kedge.Locked) {
	p.tellRefused(l.Refused, l.Silent)
	p.tellNotKept(l.NotKept)
	if l.Mended {
		p.note("%s was not the record that the lockfile named, and is now", network.Path(l.Lockfile))
	}
	switch {
	case l.Record != nil && l.OldRecord == nil:
		p.note("%s of RUN steps recorded", report.Counted(l.Record.Len(), "download"))
	case l.Record != nil:
		p.note("%s of RUN steps locked, before: %d", report.Counted(l.Record.Len(), "download"), l.OldRecord.Len())
	case l.OldRecord != nil:
		p.note("the downloads of RUN steps are not locked any more")
	}
	if l.Record != nil && l.Record.Repo() != "" && (l.OldRecord == nil || l.OldRecord.Repo() != l.Record.Repo()) {
		p.note("builds get downloads that they lack from %s: kedge cache push shares them there", l.Record.Repo())
	}
}

func (p *process) tellNotKept(err error) {
	if err != nil {
		p.say("warning: not kept for builds with --offline: %v", err)
	}
}

func (p *process) tellRefused(refused []*network.UnreplayableError, silent []builder.SilentLookup) {
	for _, e := range refused {
		p.say("warning: %v; %s", e, e.Advice)
	}
	for _, s := range silent {
		p.say("warning: %v; %s", s, silentAdvice)
	}
}

// silentAdvice says what a step can use instead of a protocol that it does not have.
const silentAdvice = "RUN with locked downloads has no ssh, git:// or other protocol: ADD https://HOST/REPOSITORY.git#REF DIR fetches a repository"
