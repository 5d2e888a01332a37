package report

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

//go:embed page.html.tmpl
var markup string

//go:embed page.css
var style string

//go:embed page.js
var script string

var parsed = sync.OnceValues(func() (*template.Template, error) {
	return template.New("report").Funcs(template.FuncMap{"n": grouped}).Parse(markup)
})

// writeHTML writes r as a page that needs no network, and no script to be read. The page counts what it has no
// room for.
func writeHTML(w io.Writer, r *Report) error {
	if r.DriftLog != nil {
		return writeHistory(w, r.DriftLog)
	}
	t, err := parsed()
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 64<<10)
	if err := t.Execute(b, newPage(r)); err != nil {
		return err
	}
	return b.Flush()
}

// sourceHash names a script or a style in a Content-Security-Policy.
func sourceHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// policy is the page's Content-Security-Policy: it allows the page's own script and style, by their hash, and
// loads nothing.
func policy() string {
	return "default-src 'none'; script-src " + sourceHash(script) + "; style-src " + sourceHash(style) +
		"; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}

// Limits of a page, so that a browser can show it: a hostile image can have any number of files, with names of any
// length.
const (
	maxName      = 400      // bytes of a name
	maxText      = 2000     // bytes of any other string
	maxPatch     = 8 << 10  // bytes of a patch
	maxExcerpt   = 4 << 10  // bytes of an excerpt
	maxRows      = 240      // rows of a comparison
	maxCauses    = 8        // causes of a file
	maxKinds     = 40       // kinds of causes in the summary
	maxFixes     = 6        // fixes of a kind
	maxSamples   = 4        // files named next to a fix
	maxListing   = 16 << 20 // bytes of HTML for files without their content
	maxContent   = 2 << 20  // bytes of HTML for the content of files
	maxTable     = 1 << 20  // bytes of HTML for each other table
	maxLayers    = 1000     // layers of a platform
	maxPlatforms = 40       // platforms

	// unfolded is how many files a layer may have before its folders are closed at first.
	unfolded = 40

	// many is how many files a page may have before the browser lays out only the visible ones.
	many = 500
)

// page is the value that the template shows.
type page struct {
	Policy string
	Style  template.CSS
	Script template.JS

	Title, Sentence, First, Second text
	Outcome                        string // same, different or unverified
	Verdict                        string // "Identical"
	Facts                          []fact
	Platforms                      []platform
	MorePlatforms                  int
	Pins                           table
	Reasons                        table // of a verdict on drift, a promotion or lint
	Causes                         []*group
	MoreCauses                     int
	Unexplained                    int
	Patch                          []patchLine // to the Dockerfile
	Packages                       table
	Config                         table
	Normalised                     table
	Changes                        table // of a lockfile
	Traces                         table // of the day and the machine
	Dated                          bool  // the builds agree, and the day makes the verdict no
	Gaps                           table // of the verdict
	Files                          int   // that differ
	Unlisted                       int   // files that are not in the tree
	Unshown                        int   // files without an excerpt whose content differs

	listing, content budget
	listed           int
	groups           map[string]*group
	samples          []*sample // of the current file
}

// budget is how many bytes of HTML are left.
type budget int

func (b *budget) take(n int) bool {
	if n > int(*b) {
		*b = 0 // a list that goes on behind a gap would mislead
		return false
	}
	*b -= budget(n)
	return true
}

// Many reports whether the browser lays out only the visible files.
func (p *page) Many() bool { return p.Files > many }

type fact struct {
	Name string
	Text text
}

// table is the part of a list that is shown.
type table struct {
	Rows []entry
	More int
}

// Total returns the length of the list.
func (t table) Total() int { return len(t.Rows) + t.More }

// entry is a row of a table. No table has more than four columns.
type entry struct {
	A, B, C, D text
}

type platform struct {
	Name, First, Second text
	Same                bool
	Layers              []layer
	MoreLayers          int
}

type layer struct {
	Index, Line           int
	Instruction           text
	First, Second         text
	Tree                  *folder
	Unlisted              int
	LackFirst, LackSecond bool
}

func newPage(r *Report) *page {
	r = r.compared()
	p := &page{
		Policy: policy(), Style: template.CSS(style), Script: template.JS(script),
		First: text{{Text: "first build"}}, Second: text{{Text: "second build"}},
		listing: maxListing, content: maxContent, groups: map[string]*group{},
	}
	p.Outcome, p.Verdict = r.outcome()
	title, sentence := r.Dockerfile, r.headline()
	var platforms []Platform
	switch {
	case r.Diff != nil:
		title = r.First.Name + " and " + r.Second.Name
		switch {
		case r.Drift != nil:
		case r.Same:
			sentence = "the two images are the same"
		default:
			sentence = "the two images differ"
		}
		p.First, p.Second = visible(cmp.Or(r.First.Name, "first"), maxName), visible(cmp.Or(r.Second.Name, "second"), maxName)
		platforms = []Platform{{Platform: r.First.Platform, First: r.First.Digest, Second: r.Second.Digest, Same: r.First.Digest == r.Second.Digest}}
		if len(r.Files) > 0 {
			platforms[0].Layers = []Layer{{Index: -1, Files: r.Files}}
		}
		p.Packages = tabulate(r.Packages, func(x Package) entry { return newEntry(x.Kind, x.Name, x.First, x.Second) })
		p.Config = tabulate(r.Config, func(x Setting) entry { return newEntry(x.Key, x.First, x.Second, "") })
	case r.Promotion != nil:
		title = r.Promotion.From + " to " + r.Promotion.To
	case r.Lock != nil:
		title = r.Lockfile
		p.Changes = tabulate(r.Changes, func(x LockChange) entry { return newEntry(x.Kind, x.Ref, x.Old, x.New) })
		if d := r.Downloads; d != nil {
			p.Packages = tabulate(d.Packages, func(x DownloadedPackage) entry { return newEntry(x.Kind, x.Name, x.First, x.Second) })
		}
	case r.Image != nil:
		title = cmp.Or(title, r.Digest)
		p.image(r)
		if r.Verdict != nil {
			platforms = r.Verdict.Platforms
		}
	}
	switch {
	case r.Drift != nil:
		p.Reasons = tabulate(r.Drift.Reasons, func(x DriftReason) entry { return newEntry(x.Level, x.Text, x.Rule, "") })
	case r.Lint != nil:
		p.Reasons = tabulate(r.Findings, func(x Finding) entry {
			return newEntry(x.Level, x.at()+": "+x.Message+". Fix: "+x.Fix, x.Rule, "")
		})
	case r.Promotion != nil:
		p.Reasons = tabulate(r.Promotion.Conditions, func(x Condition) entry { return newEntry(x.answer(), x.Name+": "+x.Text, "", "") })
	}
	p.Title, p.Sentence = visible("kedge: "+title, maxName), visible(sentence, maxText)
	p.Facts = append(facts("Dockerfile", r.Dockerfile, "Lockfile", r.Lockfile, "Args", r.Args,
		"Epoch", moment(r.Epoch), "Created", moment(r.Created)), p.Facts...)
	for _, x := range platforms {
		if x.Same {
			continue
		}
		for _, l := range x.Layers {
			p.Files += len(l.Files)
		}
	}
	for i := range platforms {
		if i == maxPlatforms {
			p.MorePlatforms = len(platforms) - i
			break
		}
		p.Platforms = append(p.Platforms, p.platform(&platforms[i]))
	}
	p.summarise()
	return p
}

// outcome returns the outcome of a page, which the style knows, and its verdict in words.
func (r *Report) outcome() (outcome, verdict string) {
	yes, no := "Identical", "Not identical"
	switch {
	case r.Drift != nil:
		yes, no = "Accepted", "Rejected"
	case r.Lint != nil:
		yes, no = "No errors", "Errors"
	case r.Promotion != nil:
		yes, no = "Promoted", "Not promoted"
		if r.Promotion.DryRun {
			yes = "May be promoted"
		}
	case r.Diff != nil:
	case r.Image == nil || r.Verdict == nil:
		return "unverified", "Not verified"
	case r.Verdict.dated():
		no = "Not reproducible"
	}
	if r.Yes() {
		return "same", yes
	}
	return "different", no
}

// image fills in what the page says of the image that was built, and of its verdict.
func (p *page) image(r *Report) {
	p.Facts = facts("Digest", r.Digest, "Index", r.Index, "Names", strings.Join(r.Names, ", "))
	p.Pins = tabulate(r.Pins, func(x Pin) entry { return newEntry(x.Kind, x.Ref, x.Digest, "") })
	counts := r.ruleCounts()
	p.Normalised = tabulate(slices.Sorted(maps.Keys(counts)), func(rule string) entry {
		return newEntry(rule, grouped(counts[rule]), r.Rules[rule], "")
	})
	v := r.Verdict
	if v == nil {
		return
	}
	if len(v.Builders) == 2 {
		p.Facts = append(p.Facts, facts("First build", v.Builders[0].words(), "Second build", v.Builders[1].words())...)
	}
	p.Dated = v.dated()
	var traces []Trace
	for _, x := range v.Platforms {
		traces = append(append(traces, x.certain(true)...), x.certain(false)...)
	}
	p.Traces = tabulate(traces, func(t Trace) entry {
		return newEntry(t.Kind, t.Path, t.words()+". "+t.advice(), t.origin(r.Dockerfile))
	})
	p.Gaps = tabulate(v.NotCovered, func(g Gap) entry { return newEntry(g.Kind, g.words(r.Dockerfile), "", "") })
	if v.Patch != "" {
		p.Patch = patchLines(v.Patch)
	}
}

// facts returns a fact for each pair of a name and a value that is not empty.
func facts(pairs ...string) []fact {
	var facts []fact
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			facts = append(facts, fact{pair[0], visible(pair[1], maxText)})
		}
	}
	return facts
}

// ruleCounts returns how many paths each rule applied to, on all platforms together.
func (i *Image) ruleCounts() map[string]int {
	counts := map[string]int{}
	for _, rules := range i.Normalised {
		for rule, paths := range rules {
			counts[rule] += len(paths)
		}
	}
	return counts
}

func tabulate[T any](in []T, view func(T) entry) table {
	var t table
	left := budget(maxTable)
	for i, x := range in {
		row := view(x)
		if !left.take(100 + row.A.cost() + row.B.cost() + row.C.cost() + row.D.cost()) {
			t.More = len(in) - i
			break
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func newEntry(a, b, c, d string) entry {
	return entry{visible(a, maxText), visible(b, maxText), visible(c, maxText), visible(d, maxText)}
}

func (p *page) platform(in *Platform) platform {
	out := platform{
		Name:  visible(in.Platform, maxName),
		First: visible(in.First, maxName), Second: visible(in.Second, maxName),
		Same: in.Same,
	}
	for i := range in.Layers {
		if in.Same {
			break
		}
		if i == maxLayers {
			out.MoreLayers = len(in.Layers) - i
			break
		}
		out.Layers = append(out.Layers, p.layer(&in.Layers[i]))
	}
	return out
}

func (p *page) layer(in *Layer) layer {
	out := layer{
		Index: in.Index, Line: max(in.Line, 0),
		Instruction: visible(in.Instruction, maxName),
		First:       visible(in.First, maxName), Second: visible(in.Second, maxName),
		LackFirst: in.First == "" && in.Second != "", LackSecond: in.Second == "" && in.First != "",
	}
	files := make([]*File, len(in.Files))
	for i := range in.Files {
		files[i] = &in.Files[i]
	}
	before := p.Unlisted
	out.Tree = plant(files).grow("", len(files) <= unfolded, func(l leaf) *file { return p.file(l, in.Patch != "") })
	out.Unlisted = p.Unlisted - before
	return out
}
