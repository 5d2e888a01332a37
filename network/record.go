package network

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// A Step is a RUN instruction that downloads something.
type Step struct {
	ID   string // lower-case hex: a hash of the stage, the instruction's text and its occurrence
	Name string // in messages and in the record, such as "build: RUN npm ci"
	File string // the Dockerfile
	Line int
}

// An Entry is the answer to one request.
type Entry struct {
	Method string // GET or HEAD
	URL    string // in canonical form, as docs/lockfile.md says
	// Status is that of HTTP, or 0 if the server could not be reached.
	Status int
	// Digest is the sha256 of the body. It is empty for HEAD and for Status 0.
	Digest digest.Digest
	// Size is that of the body in bytes. For HEAD it is the length that the server announced, or -1.
	Size   int64
	Header map[string]string // those that kedge keeps, by canonical name
	// Vary has the request headers that the answer depends on, by canonical name.
	Vary  map[string]string
	Steps []string // IDs of the steps that asked for it, sorted
}

// keptHeaders are the response headers that a record keeps. None of them holds a credential or the time of
// the download.
var keptHeaders = []string{
	"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Md5", "Content-Type",
	"Docker-Content-Digest", "Docker-Distribution-Api-Version", "Etag", "Last-Modified", "Link", "Location",
	"Vary", "Www-Authenticate", "X-Checksum-Md5", "X-Checksum-Sha1", "X-Checksum-Sha256", "X-Checksum-Sha512",
	"X-Linked-Etag", "X-Linked-Size", "X-Pypi-Last-Serial", "X-Repo-Commit",
}

// varyHeaders are the request headers that may choose between several answers to one URL. All others that a
// server names in Vary are ignored, because kedge sets them, or because they may hold a credential.
var varyHeaders = []string{"Accept", "Accept-Language", "User-Agent"}

// maxHeaderValue bounds a header that a record keeps.
const maxHeaderValue = maxURL

// A Record holds what the RUN steps of a Dockerfile download: one answer for each URL. Its methods are safe
// for use by several goroutines. The zero value is the empty record.
type Record struct {
	mu      sync.RWMutex
	entries map[string][]*Entry // by method and URL; several differ in Vary
	steps   map[string]string   // names by ID
	allow   map[string]bool     // hosts that are let through and not recorded
	repo    string              // where the bodies are shared
	count   int
}

func entryKey(method, url string) string { return method + " " + url }

// Find returns the answer to a request: of several for one URL, the one that depends on header as the
// request has it. HEAD is answered by its own entry or by that of GET.
func (r *Record) Find(method, url string, header http.Header) (Entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := r.find(method, url, header)
	if e == nil && method == http.MethodHead {
		e = r.find(http.MethodGet, url, header)
	}
	if e == nil {
		return Entry{}, false
	}
	return e.clone(), true
}

func (r *Record) find(method, url string, header http.Header) *Entry {
	for _, e := range r.entries[entryKey(method, url)] {
		if varies(e.Vary, header) {
			return e
		}
	}
	return nil
}

// holds reports whether r has the answer e, whatever its steps are.
func (r *Record) holds(e Entry) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.ContainsFunc(r.entries[entryKey(e.Method, e.URL)], func(old *Entry) bool {
		return maps.Equal(old.Vary, e.Vary) && old.Status == e.Status && old.Digest == e.Digest && old.Size == e.Size && maps.Equal(old.Header, e.Header)
	})
}

// has reports whether there is any answer to requests for a URL.
func (r *Record) has(method, url string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.entries[entryKey(method, url)]) > 0
}

// varies reports whether an answer that depends on vary answers a request with header.
func varies(vary map[string]string, header http.Header) bool {
	for name, value := range vary {
		if varyValue(name, header) != value {
			return false
		}
	}
	return true
}

// varyValue returns the value of a request header that an answer depends on. Of a User-Agent it is the first product:
// pip's and Composer's also name the kernel of the machine.
func varyValue(name string, header http.Header) string {
	value := cleanValue(strings.Join(header.Values(name), ", "))
	if name == "User-Agent" {
		value, _, _ = strings.Cut(value, " ")
	}
	return value
}

// Add adds an answer, and returns the one that the record has from then on: the first. Of the same answer it
// adds the steps.
func (r *Record) Add(e Entry) (Entry, error) {
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := entryKey(e.Method, e.URL)
	for _, old := range r.entries[key] {
		if maps.Equal(old.Vary, e.Vary) {
			for _, s := range e.Steps {
				old.addStep(s)
			}
			return old.clone(), nil
		}
	}
	if r.count >= maxEntries {
		return Entry{}, &LimitError{URL: e.URL, What: "downloads in one record", Limit: maxEntries}
	}
	if r.entries == nil {
		r.entries = map[string][]*Entry{}
	}
	added := e.clone()
	slices.Sort(added.Steps)
	added.Steps = slices.Compact(added.Steps)
	r.entries[key] = append(r.entries[key], &added)
	slices.SortFunc(r.entries[key], compareEntries)
	r.count++
	return added.clone(), nil
}

// Use notes that a step was given an answer.
func (r *Record) Use(e Entry, step string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, old := range r.entries[entryKey(e.Method, e.URL)] {
		if maps.Equal(old.Vary, e.Vary) {
			old.addStep(step)
		}
	}
}

// AddStep lists a step. Only the key of a step that is listed is that of its own downloads.
func (r *Record) AddStep(s Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.steps == nil {
		r.steps = map[string]string{}
	}
	r.steps[s.ID] = cleanName(s.Name)
}

// Steps returns the names of the steps by ID.
func (r *Record) Steps() map[string]string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.steps)
}

// Allow lets a host through, whose answers are not recorded.
func (r *Record) Allow(host string) error {
	if !isHost(host) || strings.Contains(host, "*") {
		return fmt.Errorf("%q is not a host", host)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allow == nil {
		r.allow = map[string]bool{}
	}
	r.allow[host] = true
	return nil
}

// Allowed returns the hosts that are let through, sorted.
func (r *Record) Allowed() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.allow))
}

// allows reports whether the host of a URL is let through, with its port or with any.
func (r *Record) allows(scheme, host string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	host = canonicalHost(scheme, host)
	return r.allow[host] || r.allow[host+defaultPort[scheme]] || r.allow[hostname(host)]
}

// Repo returns the repository, with its registry, that shares the bodies, or "".
func (r *Record) Repo() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.repo
}

// SetRepo sets the repository that shares the bodies; empty: none does.
func (r *Record) SetRepo(repo string) error {
	if repo != "" && !isToken(repo) {
		return fmt.Errorf("%q is not a repository", repo)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repo = repo
	return nil
}

// Entries returns the answers, sorted by URL, method and the headers that they depend on.
func (r *Record) Entries() []Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]Entry, 0, r.count)
	for _, e := range r.sorted() {
		all = append(all, e.clone())
	}
	return all
}

func (r *Record) sorted() []*Entry {
	all := make([]*Entry, 0, r.count)
	for _, entries := range r.entries {
		all = append(all, entries...)
	}
	slices.SortFunc(all, compareEntries)
	return all
}

// Bodies returns one entry for each body, in the order of the record.
func (r *Record) Bodies() []Entry {
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(r.Entries(), func(e Entry) bool {
		known := e.Digest == "" || seen[e.Digest]
		seen[e.Digest] = true
		return known
	})
}

// Len returns the number of answers.
func (r *Record) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// Clone returns a copy of r.
func (r *Record) Clone() *Record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := &Record{steps: maps.Clone(r.steps), allow: maps.Clone(r.allow), repo: r.repo, count: r.count, entries: map[string][]*Entry{}}
	for key, entries := range r.entries {
		for _, e := range entries {
			copied := e.clone()
			c.entries[key] = append(c.entries[key], &copied)
		}
	}
	return c
}

// Digest returns the digest of the answers to a step, which is part of the step's cache key. A step that the
// record does not list may ask for anything, so its digest is that of all answers.
func (r *Record) Digest(step string) digest.Digest {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, listed := r.steps[step]
	var b bytes.Buffer
	b.WriteString("kedge downloads of a step, version 1\n")
	for _, e := range r.sorted() {
		if !listed || slices.Contains(e.Steps, step) {
			e.write(&b, false)
		}
	}
	return digest.FromBytes(b.Bytes())
}

// Merge adds what other has. If the two have different answers to one request, it returns a *ConflictError
// and changes nothing.
func (r *Record) Merge(other *Record) error {
	entries, steps := other.Entries(), other.Steps()
	r.mu.RLock()
	for _, e := range entries {
		for _, old := range r.entries[entryKey(e.Method, e.URL)] {
			if maps.Equal(old.Vary, e.Vary) && (old.Status != e.Status || old.Digest != e.Digest || old.Size != e.Size) {
				conflict := &ConflictError{Method: e.Method, URL: e.URL}
				r.mu.RUnlock()
				return conflict
			}
		}
	}
	r.mu.RUnlock()
	for _, e := range entries {
		if _, err := r.Add(e); err != nil {
			return err
		}
	}
	for id, name := range steps {
		r.AddStep(Step{ID: id, Name: name})
	}
	for _, host := range other.Allowed() {
		if err := r.Allow(host); err != nil {
			return err
		}
	}
	if repo := other.Repo(); repo != "" {
		return r.SetRepo(repo)
	}
	return nil
}

func (e *Entry) clone() Entry {
	c := *e
	c.Header, c.Vary, c.Steps = maps.Clone(e.Header), maps.Clone(e.Vary), slices.Clone(e.Steps)
	return c
}

func (e *Entry) addStep(id string) {
	if i, found := slices.BinarySearch(e.Steps, id); !found {
		e.Steps = slices.Insert(e.Steps, i, id)
	}
}

func compareEntries(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.Method, b.Method),
		cmp.Compare(fields("vary:", a.Vary), fields("vary:", b.Vary)))
}

// write writes the line of an entry.
func (e *Entry) write(b *bytes.Buffer, steps bool) {
	dgst, ids := e.Digest.String(), strings.Join(e.Steps, ",")
	if dgst == "" {
		dgst = "-"
	}
	if ids == "" || !steps {
		ids = "-"
	}
	fmt.Fprintf(b, "%s %s %d %d %s %s%s%s\n", e.Method, e.URL, e.Status, e.Size, dgst, ids, fields("vary:", e.Vary), fields("", e.Header))
}

// fields returns the text of headers: one ` Name="value"` each.
func fields(prefix string, headers map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		fmt.Fprintf(&b, " %s%s=%s", prefix, name, strconv.Quote(headers[name]))
	}
	return b.String()
}

// cleanValue returns a header's value as a record keeps it.
func cleanValue(s string) string {
	s = strings.ToValidUTF8(textproto.TrimString(s), "")
	if len(s) > maxHeaderValue {
		s = strings.ToValidUTF8(s[:maxHeaderValue], "")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// maxName bounds the name of a step.
const maxName = 200

func cleanName(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "") + "…"
	}
	return s
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func isHost(s string) bool {
	return isToken(s) && strings.ToLower(s) == s && !strings.ContainsAny(s, "/@?#\\\"")
}

// A StepUse is what one step downloads.
type StepUse struct {
	Step    string // ID; empty for answers that no step asked for
	Entries []Entry
}

// ByStep returns the answers of each step, in the order of the record.
func (r *Record) ByStep() []StepUse {
	steps, entries := r.Steps(), r.Entries()
	ids := slices.SortedFunc(maps.Keys(steps), func(a, b string) int {
		return cmp.Or(cmp.Compare(steps[a], steps[b]), cmp.Compare(a, b))
	})
	var uses []StepUse
	for _, id := range ids {
		use := StepUse{Step: id}
		for _, e := range entries {
			if slices.Contains(e.Steps, id) {
				use.Entries = append(use.Entries, e)
			}
		}
		uses = append(uses, use)
	}
	rest := slices.DeleteFunc(entries, func(e Entry) bool {
		return slices.ContainsFunc(e.Steps, func(id string) bool { return slices.Contains(ids, id) })
	})
	if len(rest) > 0 {
		uses = append(uses, StepUse{Entries: rest})
	}
	return uses
}

// Tag returns the tag under which a registry has the record.
func (r *Record) Tag() string { return "downloads-" + r.Sum().Encoded()[:12] }
