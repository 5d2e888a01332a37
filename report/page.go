package report

import (
	"cmp"
	"html/template"
)

// What a page holds at most, so that a browser can show it: a hostile image can have any number of
// files, of names of any length.
const (
	maxName      = 400      // bytes of a name
	maxText      = 2000     // bytes of any other string
	maxPatch     = 8 << 10  // bytes of a patch
	maxExcerpt   = 4 << 10  // bytes of an excerpt
	maxRows      = 240      // rows of a comparison
	maxCauses    = 8        // causes of a file
	maxKinds     = 40       // kinds of causes in the summary
	maxFixes     = 6        // fixes of a kind
	maxSamples   = 4        // files named beside a fix
	maxPatches   = 20       // patches in the summary
	maxListing   = 16 << 20 // bytes of HTML that the names of files take, with all but their content
	maxContent   = 2 << 20  // bytes of HTML that their content takes
	maxTable     = 1 << 20  // bytes of HTML of any other table
	maxLayers    = 1000     // layers that differ, of a platform
	maxPlatforms = 40       // platforms

	// unfolded is how many files of a layer there can be for all its folders to be open.
	unfolded = 40

	// many is how many files a page can have for all to be laid out where they are not seen.
	many = 500
)

// page is what the template shows.
type page struct {
	Policy string
	Style  template.CSS
	Script template.JS

	Title, Sentence, First, Second text
	Outcome                        Outcome
	Verdict                        string // "Identical"
	Facts                          []fact
	Platforms                      []platform
	MorePlatforms                  int
	Pins                           table
	Causes                         []*group
	MoreCauses                     int
	Unexplained                    int
	Patches                        []*patch
	MorePatches                    int
	Packages                       table
	Config                         table
	Normalised                     table
	Files                          int // that differ
	Unlisted                       int // of them, not in the tree
	Unshown                        int // of them, without an excerpt, although their content differs

	listing, content budget
	listed           int
	groups           map[string]*group
	patches          map[string]*patch
	samples          []*sample // of the file at hand
}

// budget is how many bytes of HTML may still be written.
type budget int

func (b *budget) take(n int) bool {
	if n > int(*b) {
		*b = 0 // so that what follows a gap is not taken for the rest
		return false
	}
	*b -= budget(n)
	return true
}

// Many says whether there are so many files that only those which are seen are laid out.
func (p *page) Many() bool { return p.Files > many }

type fact struct {
	Name string
	Text text
	Code bool // it is what someone typed
}

// table is what is shown of a list.
type table struct {
	Rows []entry
	More int
}

// Total is how many rows there would be.
func (t table) Total() int { return len(t.Rows) + t.More }

// entry is a row of any of the tables, which have at most four columns.
type entry struct {
	A, B, C, D text
}

type platform struct {
	Name, First, Second text
	Same                bool
	Compared            bool
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
	p := &page{
		Policy: policy(), Style: template.CSS(style), Script: template.JS(script),
		Title:    visible(cmp.Or(r.Title, "Image"), maxName),
		Sentence: visible(r.Sentence, maxText),
		First:    visible(cmp.Or(r.First, "first"), maxName),
		Second:   visible(cmp.Or(r.Second, "second"), maxName),
		Outcome:  r.Outcome,
		listing:  maxListing, content: maxContent,
		groups: map[string]*group{}, patches: map[string]*patch{},
	}
	switch r.Outcome {
	case Same:
		p.Verdict = "Identical"
	case Different:
		p.Verdict = "Not identical"
	default:
		p.Outcome, p.Verdict = Unverified, "Not verified"
	}
	for _, f := range []struct{ name, value string }{
		{"Command", r.Command},
		{"Dockerfile", r.Dockerfile},
		{"Lockfile", r.Lockfile},
		{"Args", r.ArgsHash},
		{"Epoch", moment(r.Epoch)},
		{"Created", moment(r.Created)},
	} {
		if f.value != "" {
			p.Facts = append(p.Facts, fact{f.name, visible(f.value, maxText), f.name == "Command"})
		}
	}
	for _, x := range r.Platforms {
		if x.Same {
			continue
		}
		for _, l := range x.Layers {
			p.Files += len(l.Files)
		}
	}
	for i := range r.Platforms {
		if i == maxPlatforms {
			p.MorePlatforms = len(r.Platforms) - i
			break
		}
		p.Platforms = append(p.Platforms, p.platform(&r.Platforms[i]))
	}
	p.Pins = tabulate(r.Pins, func(x Pin) entry {
		return newEntry(x.Kind, x.Ref, x.Digest, "")
	})
	p.Packages = tabulate(r.Packages, func(x Package) entry { return newEntry(x.Kind, x.Name, x.First, x.Second) })
	p.Config = tabulate(r.Config, func(x Setting) entry { return newEntry(x.Key, x.First, x.Second, "") })
	p.Normalised = tabulate(r.Normalised, func(x Normalised) entry {
		return newEntry(x.Rule, grouped(x.Count), x.Why, "")
	})
	p.summarise()
	return p
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
		Same: in.Same, Compared: in.Same || in.Second != "" || len(in.Layers) > 0,
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
	first := p.Unlisted
	out.Tree = plant(files).grow("", len(files) <= unfolded, p.file)
	out.Unlisted = p.Unlisted - first
	return out
}
