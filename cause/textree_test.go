package cause

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	texTree1 = "/usr/share/texlive/texmf-dist/"
	texTree2 = "/var/lib/texmf/"
	texName  = "tex/generic/config/language.def"
)

// texPool returns a format as pdfTeX dumps it: the offset of each string, and the strings.
func texPool(names ...string) []byte {
	b := []byte("W2TX\x00\x00\x00\x08pdftex\x00\x00")
	at := uint32(0)
	for _, s := range names {
		b = binary.BigEndian.AppendUint32(b, at)
		at += uint32(len(s))
	}
	b = binary.BigEndian.AppendUint32(b, at)
	return append(append(b, strings.Join(names, "")...), strings.Repeat("\x00\x65\x00\x00\x00\x00\x03\xe8", 20)...)
}

// luaStrings returns a format as LuaTeX dumps it: each string after its length.
func luaStrings(names ...string) []byte {
	b := []byte("W2TX\x00\x00\x00\x08luatex\x00\x00")
	for _, s := range names {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return append(b, strings.Repeat("\x00\x65\x00\x00\x00\x00\x03\xe8", 20)...)
}

func TestTeXTrees(t *testing.T) {
	pool := func(tree string) []byte {
		return texPool("file.def", tree+texName, tree, "lang@USenglish", tree+texName)
	}
	other := texPool("file.def", texTree2+texName, texTree2, "lang@USenglish", texTree2+texName)
	binary.BigEndian.PutUint32(other[20:], 12345)
	const begin, end = "This is pdfTeX, Version 3.141592653 (TeX Live 2022/Debian) (INITEX)  23 NOV 2026 20:55\n**pdfetex.ini\n(", "\nlanguages\n)\n"
	log := func(tree, strs string) []byte {
		return []byte(begin + tree + texName + end + "2926 strings of total length " + strs + "\n")
	}
	// TeX breaks full lines.
	const said = "luatex-hyphen: using data file: "
	broken := func(tree string) []byte {
		l := said + tree + texName + ".of.a.very.long.name.that.does.not.end.soon"
		return []byte("This is LuaHBTeX, Version 1.15.0\n" + l[:80] + "\n" + l[80:] + "\n")
	}
	const files, moved = "% ls-R -- filename database for kpathsea; do not change this line.\n./:\n\nb\na\n", "% ls-R -- filename database for kpathsea; do not change this line.\n./:\n\na\nb\n"
	for _, c := range []struct {
		name          string
		first, second []byte
		want          []Kind
	}{
		{"pdfTeX", pool(texTree1), pool(texTree2), []Kind{HashOrder}},
		{"pdfTeX, other numbers", pool(texTree1), other, []Kind{HashOrder, Unknown}},
		{"LuaTeX", luaStrings(".def", texTree1+texName, "x"), luaStrings(".def", texTree2+texName, "x"), []Kind{HashOrder}},
		{"LuaTeX, trees that begin alike", luaStrings(".def", texTree1+texName), luaStrings(".def", "/usr/share/texmf/"+texName), []Kind{HashOrder}},
		{"another name", luaStrings(".def", texTree1+texName), luaStrings(".def", texTree2+"dvips/base.map"), []Kind{Unknown}},
		{"no tree", luaStrings(".def", "/usr/share/one/"+texName), luaStrings(".def", "/usr/share/eleven/"+texName), []Kind{Unknown}},
		{"log", log(texTree1, "43647"), log(texTree2, "43602"), []Kind{HashOrder}},
		{"log, another total", log(texTree1, "43647"), log(texTree2, "43603"), []Kind{HashOrder, Unknown}},
		{"log, total alone", log(texTree1, "43647"), log(texTree1, "43602"), []Kind{Unknown}},
		{"broken lines", broken(texTree1), broken(texTree2), []Kind{HashOrder}},
		{"time", log(texTree1, "1"), []byte(strings.Replace(string(log(texTree1, "1")), "20:55", "20:56", 1)), []Kind{Timestamp}},
		{"updmap", []byte("updmap version r63644 (x)\nMon Nov 23 14:41:54 2026\n"), []byte("updmap version r63644 (x)\nMon Nov 23 14:52:07 2026\n"), []Kind{Timestamp}},
		{"files", []byte(files), []byte(moved), []Kind{HashOrder}},
		{"other files", []byte(files), []byte(files + "c\n"), []Kind{Unknown}},
		{"no list of TeX's", []byte(files[1:]), []byte(moved[1:]), []Kind{Order}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, "x", c.first, c.second, hints)
			if diff := cmp.Diff(c.want, kindsOf(got)); diff != "" {
				t.Fatalf("(-want +got):\n%s\n%+v", diff, got)
			}
			if got[0].Kind == HashOrder && !strings.Contains(got[0].Fix, "PERL_HASH_SEED=0") {
				t.Errorf("%+v", got[0])
			}
		})
	}
	got := find(t, "x", broken(texTree1), broken(texTree2), hints)
	if at := int64(len("This is LuaHBTeX, Version 1.15.0\n" + said)); got[0].Offset != at || got[0].First != texTree1 || got[0].Second != texTree2 {
		t.Errorf("at %d: %+v", at, got[0])
	}
}
