package format

import (
	"errors"
	"testing"
)

func TestContain(t *testing.T) {
	failed := errors.New("failed")
	if err := Contain(func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("an error became %v", err)
	}
	if err := Contain(func() error { return nil }); err != nil {
		t.Errorf("no error became %v", err)
	}
	var none []byte
	var p *PanicError
	if err := Contain(func() error { return errors.New(string(none[1])) }); !errors.As(err, &p) || p.Value == nil {
		t.Errorf("a panic became %v", err)
	}
}
