package pyc

import (
	"bytes"
	"testing"
)

const (
	python27  = "\x03\xf3\r\n\x01\x02\x03\x04c"
	python32  = "\x6c\x0c\r\n\x01\x02\x03\x04c"
	python36  = "\x33\x0d\r\n\x01\x02\x03\x04\x05\x00\x00\x00\xe3"
	python311 = "\xa7\x0d\r\n\x00\x00\x00\x00\x01\x02\x03\x04\x05\x00\x00\x00\xe3"
	byHash    = "\xa7\x0d\r\n\x03\x00\x00\x00\x01\x02\x03\x04\x05\x00\x00\x00\xe3"
	far       = "\x88\x13\r\n\x00\x00\x00\x00\x01\x02\x03\x04\x05\x00\x00\x00\xe3" // magic 5000, about Python 3.41
)

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		want    Header
		ok      bool
	}{
		"Python 2.7":           {python27, Header{Magic: 62211, Time: 0x04030201, Length: 8, Code: true}, true},
		"Python 3.2":           {python32, Header{Magic: 3180, Time: 0x04030201, Length: 8, Code: true}, true},
		"Python 3.6":           {python36, Header{Magic: 3379, Time: 0x04030201, Length: 12, Code: true}, true},
		"Python 3.11":          {python311, Header{Magic: 3495, Time: 0x04030201, Length: 16, Code: true}, true},
		"by hash":              {byHash, Header{Magic: 3495, Flags: 3, Length: 16, Code: true}, true},
		"a later Python 3":     {far, Header{Magic: 5000, Time: 0x04030201, Length: 16, Code: true}, true},
		"another object":       {python311[:16] + "i", Header{Magic: 3495, Time: 0x04030201, Length: 16}, true},
		"no code":              {python311[:16], Header{Magic: 3495, Time: 0x04030201, Length: 16}, true},
		"cut short":            {python311[:15], Header{}, false},
		"unknown flags":        {"\xa7\x0d\r\n\x04" + python311[5:], Header{}, false},
		"checked without hash": {"\xa7\x0d\r\n\x02" + python311[5:], Header{}, false},
		"PyPy":                 {"\x50\x01\r\n" + python311[4:], Header{}, false},
		"text":                 {"text\r\ntext\r\ntext\r\n", Header{}, false},
		"empty":                {"", Header{}, false},
	} {
		if got, ok := Parse([]byte(test.content)); got != test.want || ok != test.ok {
			t.Errorf("%s: %+v %v, want %+v", name, got, ok, test.want)
		}
	}
}

func TestWithTime(t *testing.T) {
	for content, want := range map[string]string{
		python27:  "\x03\xf3\r\n\x07\x00\x00\x00c",
		python36:  "\x33\x0d\r\n\x07\x00\x00\x00\x05\x00\x00\x00\xe3",
		python311: "\xa7\x0d\r\n\x00\x00\x00\x00\x07\x00\x00\x00\x05\x00\x00\x00\xe3",
		byHash:    byHash,
		"text":    "text",
	} {
		before := []byte(content)
		if got := WithTime(before, 7); string(got) != want || string(before) != content {
			t.Errorf("%q became %q, want %q", content, got, want)
		}
	}
}

func TestOnlyRefs(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{{"\xe3a", "ca", true}, {"ca", "cb", false}, {"ca", "cab", false}} {
		if got := OnlyRefs([]byte(test.a), []byte(test.b)); got != test.want {
			t.Errorf("%q, %q: %v", test.a, test.b, got)
		}
	}
}

func TestSource(t *testing.T) {
	for name, want := range map[string]string{
		"a/__pycache__/b.cpython-311.pyc":       "a/b.py",
		"a/__pycache__/b.cpython-311.opt-2.pyc": "a/b.py",
		"__pycache__/b.pypy39.pyc":              "b.py",
		"a/b.pyc":                               "a/b.py",
		"b.pyc":                                 "b.py",
	} {
		if got := Source(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func FuzzWithTime(f *testing.F) {
	for _, seed := range []string{python27, python32, python36, python311, byHash, far, "text\r\n"} {
		f.Add([]byte(seed), uint32(7))
	}
	f.Fuzz(func(t *testing.T, content []byte, seconds uint32) {
		before := bytes.Clone(content)
		got := WithTime(content, seconds)
		if !bytes.Equal(before, content) || len(got) != len(content) {
			t.Fatal("the content changed")
		}
		was, ok := Parse(content)
		now, still := Parse(got)
		if ok && was.Flags == 0 {
			was.Time = seconds
		}
		if ok != still || was != now {
			t.Fatalf("%+v became %+v", was, now)
		}
	})
}
