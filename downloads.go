package kedge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/opencontainers/go-digest"
	"golang.org/x/net/http/httpproxy"
)

// LockDownloads says what [Lock] does about the downloads of RUN steps.
type LockDownloads string

// The values of LockDownloads.
const (
	// KeepDownloads adds what is new to a lock that has downloads, and leaves another as it is.
	KeepDownloads LockDownloads = ""
	// RecordDownloads executes every RUN, and records what it downloads.
	RecordDownloads LockDownloads = "on"
	// DropDownloads takes the downloads out of the lock.
	DropDownloads LockDownloads = "off"
)

// readRecord reads the record of downloads that the lock names. p.record is nil if it names none.
func (p *project) readRecord() (err error) {
	if p.lockfile != "" {
		p.record, err = network.Read(network.Path(p.lockfile), p.lock.Downloads)
	}
	return err
}

// recordToReplace is readRecord for [Lock]. A record that is dropped or refreshed need not be the one that the lock
// names, and one that is recorded again may be another: that of two branches that were merged.
func (p *project) recordToReplace(r Refresh) error {
	err := p.readRecord()
	if err == nil || p.options.LockDownloads == KeepDownloads {
		return err
	}
	p.otherRecord = true
	replaced := p.options.LockDownloads == DropDownloads || r.All
	var other *network.MismatchError
	if !replaced && (!errors.As(err, &other) || other.Found == "") {
		return err
	}
	if p.record, err = network.ReadAny(network.Path(p.lockfile)); replaced {
		return nil
	}
	return err
}

// downloads returns what serves the downloads of a build from a copy of record, or nil without one.
func (p *project) downloads(ctx context.Context, record *network.Record) (*builder.Downloads, error) {
	if record == nil {
		return nil, nil
	}
	if p.env.Downloads == nil {
		return nil, &NoCacheError{p.lockfile}
	}
	record = record.Clone()
	o, err := p.env.Downloads(ctx, record)
	if err != nil {
		return nil, err
	}
	o.Record, o.Hosts = record, hosts(p.options.Hosts)
	for id := range p.options.Secrets {
		value, err := p.options.Secrets.GetSecret(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("secret %q: %w", id, err)
		}
		o.Secrets = append(o.Secrets, value)
	}
	if proxies := p.upstream(); proxies != (httpproxy.Config{}) {
		o.ProxyFor = proxies.ProxyFunc()
	}
	return &builder.Downloads{Options: o}, nil
}

// A NoCacheError says that a lock has downloads, and [Env] has no place for them.
type NoCacheError struct{ Lockfile string }

func (e *NoCacheError) Error() string {
	return e.Lockfile + ": locks downloads, and there is no cache for them"
}

// A NoDownloadsError says that a lock has no downloads, and was to say something of them.
type NoDownloadsError struct{ Lockfile string }

func (e *NoDownloadsError) Error() string { return e.Lockfile + ": locks no downloads" }

// upstream returns the proxies of the build args, and those that docker would give to steps. Steps have kedge's
// instead, which uses these.
func (p *project) upstream() httpproxy.Config {
	value := func(name string) string {
		for _, values := range []map[string]string{p.options.Args, p.options.Proxies} {
			for key, v := range values {
				if strings.EqualFold(key, name) && v != "" {
					return v
				}
			}
		}
		return ""
	}
	return httpproxy.Config{HTTPProxy: value("HTTP_PROXY"), HTTPSProxy: value("HTTPS_PROXY"), NoProxy: value("NO_PROXY")}
}

// hosts returns the addresses of the names that have one, by name in lower case.
func hosts(entries []string) map[string]string {
	known := map[string]string{}
	for _, entry := range entries {
		if name, ip, _ := strings.Cut(entry, "="); net.ParseIP(strings.Trim(ip, "[]")) != nil {
			known[strings.ToLower(name)] = strings.Trim(ip, "[]")
		}
	}
	return known
}

// toRecord returns the record that a lock begins with, or nil if it has no downloads.
func (p *project) toRecord(r Refresh) (*network.Record, error) {
	record := p.record
	switch p.options.LockDownloads {
	case DropDownloads:
		return nil, nil
	case RecordDownloads:
		if record == nil || r.All {
			fresh := &network.Record{}
			if record != nil { // what the user has said of it stays
				for _, host := range record.Allowed() {
					if err := fresh.Allow(host); err != nil {
						return nil, err
					}
				}
				if repo := record.Repo(); repo != "" {
					if err := fresh.SetRepo(repo); err != nil {
						return nil, err
					}
				}
			}
			record = fresh
		}
	}
	if record == nil {
		if p.options.DownloadsRepo != nil {
			return nil, &NoDownloadsError{p.lockfile}
		}
		return nil, nil
	}
	record = record.Clone()
	if repo := p.options.DownloadsRepo; repo != nil {
		if err := record.SetRepo(*repo); err != nil {
			return nil, err
		}
	}
	for _, host := range p.options.AllowDownloads {
		if err := record.Allow(strings.ToLower(host)); err != nil {
			return nil, err
		}
	}
	return record, nil
}

// resolveOrExecute resolves req and, if its downloads must be locked, executes its steps.
func (p *project) resolveOrExecute(ctx context.Context, req *builder.Request) (*builder.Result, error) {
	if req.Downloads == nil || len(p.env.Nodes) == 0 {
		return p.execute(ctx, p.env.Builder, req)
	}
	var results []*builder.Result
	next := *req
	for _, n := range p.env.Nodes { // one after the other, since a URL has the first answer
		part := next
		part.Platforms = n.Platforms
		res, err := p.execute(ctx, n.Builder, &part)
		if err != nil {
			return nil, &NodeError{n.Name, err}
		}
		results = append(results, res)
		next.Lock, next.Epoch, next.Relock = res.Lock, res.Epoch, nil
	}
	resolved, err := p.env.Builder.Resolve(ctx, &next)
	if err != nil {
		return nil, err
	}
	return builder.Join(results, *resolved)
}

// execute has one builder execute req, again if it must.
func (p *project) execute(ctx context.Context, by *builder.Builder, req *builder.Request) (*builder.Result, error) {
	for attempt := 1; ; attempt++ {
		shown, wait := p.env.display(req, "locking")
		res, err := by.Execute(ctx, shown)
		wait()
		var again bool
		if req, again = builder.Again(req, err, attempt); !again {
			return res, err
		}
	}
}

// mergeDownloads makes the change from before to after in the downloads that f names.
func mergeDownloads(lockfile string, f, before, after *lock.File, r *network.Record) (err error) {
	if r != nil {
		f.Downloads, err = stageRecord(lockfile, f, before, r)
	} else if after.Downloads != before.Downloads {
		f.Downloads = after.Downloads
	}
	return err
}

// adopt gives the record that a lockfile names now its place, or removes the one that it no longer names.
func adopt(lockfile string, now digest.Digest, before *lock.File) error {
	path := network.Path(lockfile)
	if now != "" {
		return network.Adopt(path, now)
	}
	if before.Downloads == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the record of downloads: %w", err)
	}
	return nil
}

// stageRecord writes a record for a lockfile that is being updated: f has the record of now, and before the one
// that r began with. It returns the digest for the lockfile. What other commands have recorded since stays.
func stageRecord(lockfile string, f, before *lock.File, r *network.Record) (digest.Digest, error) {
	path := network.Path(lockfile)
	if f.Downloads != "" && f.Downloads != before.Downloads {
		other, err := network.Read(path, f.Downloads)
		if err != nil {
			return "", err
		}
		r = r.Clone()
		if err := r.Merge(other); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return network.Stage(path, f.Downloads, r)
}

// keepRecord has the cache of downloads keep what a lockfile's record needs.
func keepRecord(ctx context.Context, lockfile string, d *builder.Downloads) error {
	if d == nil {
		return nil
	}
	path, err := filepath.Abs(network.Path(lockfile))
	if err != nil {
		return err
	}
	_, err = d.Cache.Keep(ctx, path, d.Record)
	return err
}
