package ar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/format"
)

// member returns the bytes of one member.
func member(name, content string) string {
	m := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", name, 7, 1, 2, "100644", len(content), content)
	return m + strings.Repeat("\n", len(content)&1)
}

// listed returns the names and contents of an archive.
func listed(t testing.TB, archive string, limit int) (string, error) {
	t.Helper()
	members, err := List(io.NewSectionReader(strings.NewReader(archive), 0, int64(len(archive))), limit)
	var list []string
	for _, m := range members {
		content, err := io.ReadAll(m.Content)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m.Name+"="+string(content))
		if !m.Time.Equal(time.Unix(7, 0)) || m.UID != "1" || m.GID != "2" || m.Mode != "100644" {
			t.Errorf("%+v", m)
		}
	}
	return strings.Join(list, " "), err
}

func TestList(t *testing.T) {
	long := strings.Repeat("n", 30)
	for name, test := range map[string]struct{ archive, want string }{
		"none":          {Magic, ""},
		"odd and even":  {Magic + member("a/", "x") + member("b/", "yy"), "a=x b=yy"},
		"Debian's":      {Magic + member("debian-binary", "2.0\n"), "debian-binary=2.0\n"},
		"GNU's names":   {Magic + member("//", "short/\n"+long+"/\n") + member("/7", "x") + member("/0", "y"), long + "=x short=y"},
		"BSD's names":   {Magic + member("#1/32", long+"\x00\x00x"), long + "=x"},
		"symbol tables": {Magic + member("/", "s") + member("/SYM64/", "s"), "/=s /SYM64/=s"},
	} {
		if got, err := listed(t, test.archive, 10); got != test.want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, archive := range map[string]string{
		"cut short":               Magic + member("a/", "xx")[:61],
		"no end of a header":      Magic + strings.Replace(member("a/", "x"), "`", "'", 1),
		"a name beyond the table": Magic + member("//", "a/\n") + member("/9", "x"),
		"no table":                Magic + member("/0", "x"),
		"a name longer than it":   Magic + member("#1/9", "x"),
		"a negative length":       Magic + member("#1/-1", "x"),
		"a size that is none":     Magic + strings.Replace(member("a/", "x"), "1         `", "-1        `", 1),
	} {
		if got, err := listed(t, archive, 10); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := listed(t, Magic+member("a/", "x")+member("b/", "x"), 1); !errors.Is(err, format.ErrTooLarge) {
		t.Errorf("two members within a limit of one: %v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(Magic + member("a/", "x") + member("b/", "yy")))
	f.Add([]byte(Magic + member("//", "abc/\n") + member("/0", "xy")))
	f.Add([]byte(Magic + member("#1/4", "abcdxy")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		members, err := List(io.NewSectionReader(bytes.NewReader(archive), 0, int64(len(archive))), 100)
		total := int64(0)
		for _, m := range members {
			content, err := io.ReadAll(m.Content)
			if err != nil || int64(len(content)) != m.Content.Size() || len(m.Name) > maxName {
				t.Fatalf("%q: %d bytes of %d, %v", m.Name, len(content), m.Content.Size(), err)
			}
			total += m.Content.Size()
		}
		if total > int64(len(archive)) || len(members) > 100 || err != nil && members != nil {
			t.Fatalf("%d members of %d bytes in %d, %v", len(members), total, len(archive), err)
		}
	})
}
