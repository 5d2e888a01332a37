package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plainly writes a text with its spans: [marked] and {escaped}.
func plainly(t text) string {
	var b strings.Builder
	for _, s := range t {
		switch {
		case s.Marked && s.Escaped:
			b.WriteString("[{" + s.Text + "}]")
		case s.Marked:
			b.WriteString("[" + s.Text + "]")
		case s.Escaped:
			b.WriteString("{" + s.Text + "}")
		default:
			b.WriteString(s.Text)
		}
	}
	return b.String()
}

// sheet writes a comparison, one line a row.
func sheet(c *comparison) string {
	var b strings.Builder
	for _, r := range c.Rows {
		if r.Kind == "gap" {
			fmt.Fprintf(&b, "gap %d\n", r.Gap)
			continue
		}
		fmt.Fprintf(&b, "%s %s|%s", r.Kind, r.First.Number, plainly(r.First.Text))
		if c.Hex {
			b.WriteString("|" + plainly(r.First.Chars))
		}
		fmt.Fprintf(&b, " %s|%s", r.Second.Number, plainly(r.Second.Text))
		if c.Hex {
			b.WriteString("|" + plainly(r.Second.Chars))
		}
		b.WriteString("\n")
	}
	for _, n := range c.Notes {
		b.WriteString(n + "\n")
	}
	return b.String()
}

func TestCompare(t *testing.T) {
	numbers := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i+1)
		}
		return b.String()
	}
	tests := []struct {
		name          string
		first, second *Excerpt
		want          string
	}{
		{"a word", excerptOf("at 14:41:48\n"), excerptOf("at 14:42:48\n"), "ch 1|at 14:[41]:48 1|at 14:[42]:48\n"},
		{"whole words", excerptOf("id abc123 x"), excerptOf("id abd123 x"), "ch 1|id [abc123] x 1|id [abd123] x\n"},
		{"order", excerptOf("a\nb\n"), excerptOf("b\na\n"), "ins | 1|b\neq 1|a 2|a\ndel 2|b |\n"},
		{"a line more", excerptOf("a\nc\n"), excerptOf("a\nb\nc\n"), "eq 1|a 1|a\nins | 2|b\neq 2|c 3|c\n"},
		{"the end of the last line", excerptOf("a"), excerptOf("a\n"), "ch 1|a 1|a[{\\n}]\n"},
		{"carriage return", excerptOf("a\r\n"), excerptOf("a\n"), "ch 1|a[{\\r}] 1|a\n"},
		{"tab", excerptOf("a\tb\n"), excerptOf("a b\n"), "ch 1|a[\t]b 1|a[ ]b\n"},
		{"direction", excerptOf("a\u202eb"), excerptOf("ab"), "ch 1|[a][{\\u202e}][b] 1|[ab]\n"},
		{"only the first", excerptOf("a\nb\n"), nil, "del 1|a |\ndel 2|b |\n"},
		{"only the second, empty", nil, excerptOf(""), ""},
		{"far rows", excerptOf(numbers(12)), excerptOf(strings.Replace(numbers(12), "line 6\n", "LINE 6\n", 1)),
			"gap 2\neq 3|line 3 3|line 3\neq 4|line 4 4|line 4\neq 5|line 5 5|line 5\nch 6|[line] 6 6|[LINE] 6\n" +
				"eq 7|line 7 7|line 7\neq 8|line 8 8|line 8\neq 9|line 9 9|line 9\ngap 3\n"},
		{"a part", &Excerpt{Data: []byte("x\n"), Offset: 100, Line: 7}, &Excerpt{Data: []byte("y\n"), Offset: 100, Truncated: true},
			"ch 7|[x] |[y]\nShown: bytes 100 to 102 of the first, bytes 100 to 102 of the second.\n"},
		{"nothing to be seen", &Excerpt{Data: []byte("same\n"), Truncated: true}, excerptOf("same\n"),
			"eq 1|same 1|same\nThese parts are the same. The difference lies outside them.\nShown: bytes 0 to 5 of the first.\n"},
		{"bytes", excerptOf("\x00abcdefg<"), excerptOf("\x00aBcdefg"),
			"ch 00000000|00 61 [62] 63 64 65 66 67|.a[b]cdefg 00000000|00 61 [42] 63 64 65 66 67|.a[B]cdefg\ndel 00000008|3c|< ||\n"},
		{"one side is bytes", excerptOf("ab"), excerptOf("a\xff\xfeb"), "ch 00000000|61 [62]|a[b] 00000000|61 [ff fe 62]|a[..b]\n"},
		{"a character cut in two", &Excerpt{Data: []byte("\xa9\xc3\xa9\xc3"), Offset: 5, Truncated: true}, &Excerpt{Data: []byte("\xa9\xc3\xa8\xc3"), Offset: 5, Truncated: true},
			"ch |{\\xa9}[é]{\\xc3} |{\\xa9}[è]{\\xc3}\nShown: bytes 5 to 9 of the first, bytes 5 to 9 of the second.\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sheet(compare(test.first, test.second))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompareIsBounded(t *testing.T) {
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = "\n\x00a<"[i*i%4]
	}
	c := compare(&Excerpt{Data: noise}, &Excerpt{Data: noise[1:]})
	if len(c.Rows) > maxRows || !strings.Contains(sheet(c), "more rows are not shown") || !strings.Contains(sheet(c), "bytes 0 to 4096 of the first") {
		t.Errorf("%d rows, %q", len(c.Rows), c.Notes)
	}
	c = compare(&Excerpt{Data: []byte(strings.Repeat("a\n", 1<<20))}, &Excerpt{Data: []byte(strings.Repeat("b\n", 1<<20))})
	if len(c.Rows) != maxRows || !strings.Contains(sheet(c), "1808 more lines are not shown") {
		t.Errorf("%d rows, %q", len(c.Rows), c.Notes)
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"usr/bin/naïve ✓ 日本 שלום":    "usr/bin/naïve ✓ 日本 שלום",
		"a\u202eb\u202c":             `a{\u202e}b{\u202c}`,
		"\x1b[0m\x7f\x00":            `{\x1b}[0m{\x7f\x00}`,
		"\xff\xfe":                   `{\xff\xfe}`,
		"a\nb\tc\r":                  `a{\n}b{\t}c{\r}`,
		"\u2028\u00a0\ufeff\u200d":   `{\u2028\u00a0\ufeff\u200d}`,
		"\ufffd":                     "\ufffd",
		"\U000e0041\ufe0f\u3164":     `{\U000e0041\ufe0f\u3164}`,
		"\ue000\U0010ffff\U000f0000": `{\ue000\U0010ffff\U000f0000}`,
		strings.Repeat("é", 60):      strings.Repeat("é", 37) + "{ … 22 bytes … }" + strings.Repeat("é", 12),
	} {
		if got := plainly(visible(in, 100)); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

// outline writes a tree, one line a folder or file.
func outline(f *folder, indent string) string {
	var b strings.Builder
	for _, d := range f.Folders {
		fmt.Fprintf(&b, "%s%s %d\n%s", indent, d.Name, d.Total(), outline(d, indent+"  "))
	}
	for _, x := range f.Files {
		fmt.Fprintf(&b, "%s%s\n", indent, x.Name)
	}
	return b.String()
}

func TestTree(t *testing.T) {
	tests := []struct {
		name, paths, want string
	}{
		{"one", "etc/passwd", "etc/ 1\n  passwd\n"},
		{"at the root", "/a b", "a\nb\n"},
		{"folders first, and joined", "x a/b/c/d a/b/c/e y/z", "a/b/c/ 2\n  d\n  e\ny/ 1\n  z\nx\n"},
		{"a folder that differs itself", "var var/log var/log/x", "var/ 3\n  log/ 2\n    ./\n    x\n  ./\n"},
		{"twice", "a/b a/b", "a/ 2\n  b\n  b\n"},
		{"odd", "/ // ../../etc/x ./y a//b", "./ 1\n  y\n../../etc/ 1\n  x\na/ 1\n  b\n/\n/\n"},
		{"deep", strings.Repeat("d/", 20) + "x " + strings.Repeat("d/", 20) + "y", strings.Repeat("d/", 16) + " 2\n  d/d/d/d/x\n  d/d/d/d/y\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var files []*File
			for p := range strings.FieldsSeq(test.paths) {
				files = append(files, &File{Path: p})
			}
			got := outline(plant(files).grow("", true, func(l leaf) *file { return &file{Name: visible(l.name, maxName)} }), "")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
