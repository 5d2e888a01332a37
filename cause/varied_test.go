package cause

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVaried has a pair for everything that kedge can change for a second build. Without the change, the pair has
// another cause; a similar pair has none.
func TestVaried(t *testing.T) {
	cpus, umask, locale := Varied{CPUs: 1}, Varied{Umasks: [2]int64{0o022, 0o002}}, Varied{Locale: "C.UTF-8"}
	for _, c := range []struct {
		name          string
		varied        Varied
		first, second string
		want          Kind
		otherwise     Kind // where nothing was varied
	}{
		{"nproc", cpus, "2\n", "1\n", CPU, Unknown},
		{"make -j", cpus, "make -j16 all\n", "make -j1 all\n", CPU, Unknown},
		{"list", cpus, "cpus 0-3\n", "cpus 0\n", CPU, Unknown},
		{"other list", cpus, "cpus 0,1\n", "cpus 0\n", CPU, Unknown},
		{"another number", cpus, "n 3\n", "n 2\n", Unknown, Unknown},
		{"more", cpus, "n 1\n", "n 2\n", Unknown, Unknown},
		{"version", cpus, "v 1.2.7\n", "v 1.1.7\n", Unknown, Unknown},
		{"elapsed", cpus, "took 2 s\n", "took 1 s\n", Duration, Duration},
		{"umask", umask, "0022\n", "0002\n", Mode, Unknown},
		{"mode of stat", umask, "644 x\n", "664 x\n", Mode, Unknown},
		{"mode of a folder", umask, "mode=40755\n", "mode=40775\n", Mode, Unknown},
		{"mode of ls", umask, "-rw-r--r-- 1 root\n", "-rw-rw-r-- 1 root\n", Mode, Unknown},
		{"another mode", umask, "644 x\n", "666 x\n", Unknown, Unknown},
		{"another mode of ls", umask, "-rw-r--r-- 1 root\n", "-rw-r----- 1 root\n", Unknown, Unknown},
		{"charmap", locale, "ANSI_X3.4-1968\n", "UTF-8\n", Locale, Unknown},
		{"locale", locale, "LC_CTYPE=\"POSIX\"\n", "LC_CTYPE=\"C.UTF-8\"\n", Locale, Locale},
		{"unset locale", locale, "LC_ALL=\n", "LC_ALL=C.UTF-8\n", Locale, Unknown},
		{"quotes", locale, "cannot open 'x'\n", "cannot open ‘x’\n", Locale, Unknown},
		{"letters", locale, "caf? au lait\n", "café au lait\n", Locale, Unknown},
		{"escaped", locale, "caf\\xc3\\xa9 au\n", "café au\n", Locale, Unknown},
		{"sorted by bytes", locale, "a.b\nB\na\nA\n", "A\nB\na\na.b\n", LocaleOrder, Order},
		{"not sorted", locale, "a.b\nB\na\nA\n", "A\na.b\nB\na\n", Order, Order},
		{"another word", locale, "cannot open\n", "cannot close\n", Unknown, Unknown},
		{"other letters", locale, "cafe au\n", "café au\n", Unknown, Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := hints
			h.Varied = c.varied
			if diff := cmp.Diff([]Kind{c.want}, kindsOf(find(t, "x", c.first, c.second, h))); diff != "" {
				t.Errorf("varied (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]Kind{c.otherwise}, kindsOf(find(t, "x", c.first, c.second, hints))); diff != "" {
				t.Errorf("not varied (-want +got):\n%s", diff)
			}
		})
	}
	h := hints
	h.Varied = umask
	for modes, want := range map[[2]int64]string{{0o644, 0o664}: "umask", {0o755, 0o775}: "umask", {0o644, 0o600}: "", {0o664, 0o644}: ""} {
		first, second := fileOf("x"), fileOf("x")
		first.Mode, second.Mode = modes[0], modes[1]
		got, err := Find(t.Context(), "x", first, second, h)
		if err != nil || len(got) != 1 || got[0].Kind != Mode || got[0].Format != want {
			t.Errorf("%o: %+v, %v", modes, got, err)
		}
	}
}
