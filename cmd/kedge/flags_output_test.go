package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/publish"
)

func TestParseOutput(t *testing.T) {
	yes := true
	for value, want := range map[string]output{
		"dir":                   {Output: publish.Output{Type: publish.Local, Dest: "dir", Dir: true}},
		"-":                     {Output: publish.Output{Type: publish.Tar, Dest: "-"}},
		"type=tar":              {Output: publish.Output{Type: publish.Tar, Dest: "-"}},
		"type=docker":           {Output: publish.Output{Type: publish.Docker}},
		"TYPE=oci, dest=x":      {Output: publish.Output{Type: publish.OCI, Dest: "x"}},
		"type=oci,tar=0,dest=x": {Output: publish.Output{Type: publish.OCI, Dest: "x", Dir: true}},
		`type=local,"dest=a,b"`: {Output: publish.Output{Type: publish.Local, Dest: "a,b", Dir: true}},
		"type=registry,name=a":  {Output: publish.Output{Type: publish.Image, Names: []string{"a"}, Push: true}},
		`type=image,"name=a,,b",push=true,push-by-digest=1,store=0`: {
			Output: publish.Output{Type: publish.Image, Names: []string{"a", "b"}, Push: true, ByDigest: true}},
		"type=local,dest=d,src=/etc,platform-split=1,mode=copy": {
			Output: publish.Output{Type: publish.Local, Dest: "d", Dir: true, Root: publish.RootOptions{Split: &yes, Source: "/etc"}}},
		"type=image,compression=gzip,oci-mediatypes=1,annotation.k=v": {
			Output: publish.Output{Type: publish.Image}, annotations: []image.Annotation{{On: image.OnManifest, Key: "k", Value: "v"}}},
	} {
		got, err := parseOutput(value)
		if err != nil {
			t.Errorf("%s: %v", value, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(output{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", value, diff)
		}
	}
	for value, want := range map[string]string{
		"dest=x,name=a":                       "type= is missing",
		"type=rpm":                            "type=rpm is not oci,",
		"type=oci,x":                          `"x" is not KEY=VALUE`,
		"type=oci,dest=x,compression=zstd":    "compression=zstd is not possible",
		"type=oci,dest=x,compression-level=9": "compression-level is not possible",
		"type=oci,dest=x,push=true":           "type=oci has no push",
		"type=image,tar=false":                "type=image has no tar",
		"type=image,push=maybe":               "push=maybe is neither true nor false",
		"type=image,annotation-x.k=v":         `"x" is not manifest`,
		"type=local,dest=d,name=a":            "type=local has no name",
		"type=local,dest=d,mode=move":         "mode=move is neither copy nor delete",
		"type=local,dest=d,src=":              "src= is empty",
		"type=tar,mode=copy":                  "type=tar has no mode",
		"type=cacheonly,name=a":               "type=cacheonly has no name",
		"type=cacheonly,source-date-epoch=1":  "source-date-epoch is said for the whole build",
		"type=registry,dest=x":                "type=image has no dest",
	} {
		if _, err := parseOutput(value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
	p := &process{stdout: &bytes.Buffer{}}
	outputs, annotations, err := p.parseOutputs([]string{"", "type=image,annotation.k=v", "dir"})
	if err != nil || len(outputs) != 2 || len(annotations) != 1 {
		t.Errorf("%+v, %+v, %v", outputs, annotations, err)
	}
}
