package report

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/network"
)

// Downloads is how the record of downloads changed.
type Downloads struct {
	Entries  int                 `json:"entries"` // how many answers are locked
	Allowed  []string            `json:"allowed"` // hosts whose answers are not locked
	NewHosts []string            `json:"newHosts"`
	OldHosts []string            `json:"oldHosts"` // that nothing is downloaded from any more
	Packages []DownloadedPackage `json:"packages"`
	Others   []Download          `json:"others"` // that are no files of packages
}

// DownloadedPackage is a package whose versions differ. Several versions are joined by ", ".
type DownloadedPackage struct {
	Package
	// Rebuilt are versions that have other bytes than before.
	Rebuilt []string `json:"rebuilt,omitempty"`
}

// Download is a request that is answered otherwise.
type Download struct {
	Change Change  `json:"change"`
	Method string  `json:"method"`
	URL    string  `json:"url"`
	First  *Answer `json:"first,omitempty"`
	Second *Answer `json:"second,omitempty"`
}

// Answer is what a request is answered with.
type Answer struct {
	Status int    `json:"status"` // 0: the server could not be reached
	Size   int64  `json:"size"`   // -1: unknown
	Digest string `json:"digest,omitempty"`
}

// newDownloads reports how the record of downloads changed. Either may be nil. It returns nil if there is no
// record any more.
func newDownloads(before, after *network.Record) *Downloads {
	if after == nil {
		return nil
	}
	c := network.Compare(before, after)
	d := &Downloads{
		Entries: after.Len(), Allowed: orEmpty(after.Allowed()), NewHosts: orEmpty(c.Hosts), OldHosts: orEmpty(c.Gone),
		Packages: []DownloadedPackage{}, Others: []Download{},
	}
	for _, p := range c.Packages {
		change := changeOf(len(p.Old) > 0, len(p.New) > 0)
		d.Packages = append(d.Packages, DownloadedPackage{
			Package{p.Kind, p.Name, change, strings.Join(p.Old, ", "), strings.Join(p.New, ", ")}, p.Rebuilt,
		})
	}
	for _, o := range c.Others {
		d.Others = append(d.Others, Download{changeOf(o.Old != nil, o.New != nil), o.Method, o.URL, newAnswer(o.Old), newAnswer(o.New)})
	}
	return d
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func changeOf(before, after bool) Change {
	switch {
	case !before:
		return Added
	case !after:
		return Removed
	}
	return Changed
}

func newAnswer(e *network.Entry) *Answer {
	if e == nil {
		return nil
	}
	return &Answer{Status: e.Status, Size: e.Size, Digest: e.Digest.String()}
}

// sections returns what changed, new hosts first.
func (d *Downloads) sections() []section {
	if d == nil {
		return nil
	}
	var hosts, packages, others, allowed []item
	for _, h := range d.NewHosts {
		hosts = append(hosts, item{change: string(Added), name: h, what: "nothing came from it before"})
	}
	for _, h := range d.OldHosts {
		hosts = append(hosts, item{change: string(Removed), name: h})
	}
	for _, p := range d.Packages {
		i := item{change: string(p.Change), kind: p.Kind, name: p.Name, first: p.First, second: p.Second}
		if len(p.Rebuilt) > 0 {
			i.what = "other bytes in version " + plain(strings.Join(p.Rebuilt, ", "))
		}
		packages = append(packages, i)
	}
	for _, o := range d.Others {
		others = append(others, item{change: string(o.Change), kind: strings.TrimPrefix(o.Method, http.MethodGet), name: o.URL, what: o.words()})
	}
	for _, h := range d.Allowed {
		allowed = append(allowed, item{change: "open", name: h})
	}
	return []section{{"hosts of downloads", hosts}, {"downloaded packages", packages}, {"other downloads", others}, {"not locked", allowed}}
}

func (d *Download) words() string {
	switch {
	case d.First == nil:
		return d.Second.words()
	case d.Second == nil:
		return d.First.words()
	case d.First.Status == d.Second.Status && d.First.Size != d.Second.Size:
		return fmt.Sprintf("%s, %s", d.Second.words(), signed(d.Second.Size-d.First.Size))
	case d.First.Status == d.Second.Status && d.First.Digest == d.Second.Digest:
		return "other headers"
	case d.First.Status == d.Second.Status:
		return d.Second.words() + ", other bytes"
	}
	return d.First.words() + " -> " + d.Second.words()
}

func (a *Answer) words() string {
	var parts []string
	switch a.Status {
	case 0:
		return "unreachable"
	case http.StatusOK:
	default:
		parts = append(parts, strings.TrimSpace(strconv.Itoa(a.Status)+" "+http.StatusText(a.Status)))
	}
	if a.Size >= 0 {
		parts = append(parts, human(a.Size))
	}
	return strings.Join(parts, ", ")
}
