package cpio

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
func member(magic, name, content string) string {
	m := magic
	for _, n := range []int{3, 0o100644, 1, 2, 1, 7, len(content), 8, 9, 10, 11, len(name) + 1, 0} {
		m += fmt.Sprintf("%08x", n)
	}
	m += name + "\x00"
	m += strings.Repeat("\x00", -len(m)&3) + content
	return m + strings.Repeat("\x00", -len(m)&3)
}

func list(archive string, limit int) ([]Member, error) {
	return List(io.NewSectionReader(strings.NewReader(archive), 0, int64(len(archive))), limit)
}

func TestList(t *testing.T) {
	end := member("070701", trailer, "")
	for name, archive := range map[string]string{
		"without checksums": member("070701", "a", "x") + member("070701", "dir/b", "yyyyy") + end,
		"with checksums":    member("070702", "a", "x") + member("070702", "dir/b", "yyyyy") + end,
		"and another":       member("070701", "a", "x") + member("070701", "dir/b", "yyyyy") + end + member("070701", "c", "z") + end,
	} {
		members, err := list(archive, 2)
		if err != nil || len(members) != 2 {
			t.Errorf("%s: %d members, %v", name, len(members), err)
			continue
		}
		for i, want := range []string{"a=x", "dir/b=yyyyy"} {
			m := members[i]
			content, err := io.ReadAll(m.Content)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Name + "=" + string(content); got != want || m.Inode != 3 || m.Mode != 0o100644 || m.UID != 1 || m.GID != 2 ||
				m.Links != 1 || !m.Time.Equal(time.Unix(7, 0)) || m.Device != [4]int64{8, 9, 10, 11} {
				t.Errorf("%s: %+v %q", name, m, content)
			}
		}
	}
	for name, archive := range map[string]string{
		"no trailer":         member("070701", "a", "x"),
		"cut short":          member("070701", "a", "xxxxxxxx")[:115],
		"another format":     member("070707", "a", "x") + end,
		"no number":          strings.Replace(member("070701", "a", "x"), "00000003", "0000000g", 1) + end,
		"a signed number":    strings.Replace(member("070701", "a", "x"), "00000003", "-0000003", 1) + end,
		"more than it has":   strings.Replace(member("070701", "a", "x"), "0000000700000001", "00000007ffffffff", 1) + end,
		"a name without end": member("070701", strings.Repeat("a", 5000), "x") + end,
	} {
		if members, err := list(archive, 10); err == nil {
			t.Errorf("%s: %d members", name, len(members))
		}
	}
	if _, err := list(member("070701", "a", "x")+member("070701", "b", "x")+end, 1); !errors.Is(err, format.ErrTooLarge) {
		t.Errorf("two members within a limit of one: %v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(member("070701", "a", "x") + member("070702", "b", "yyyy") + member("070701", trailer, "")))
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
