package publish

import (
	"fmt"
	"strings"
	"testing"
)

func TestNamesSaysWhichCharacter(t *testing.T) {
	for tag, want := range map[string]string{
		"app:1%2":             `: '%' at character 6`,
		"app:.1":              `: '.' at character 5`,
		"app name":            `: ' ' at character 4`,
		"App":                 `: 'A' at character 1`,
		"REG.io/team/aPp:Tag": `: 'P' at character 14`,
		"reg.io:5000/app:1:2": `: ':' at character 18`,
		"reg.io/äpp":          `: 'ä' at character 8`,
		"app/":                "",
		"app@sha256:12":       "",
		"":                    "",
	} {
		_, err := Names([]string{tag}, "0123456789ab")
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("invalid tag %q: invalid reference format", tag)) || !strings.HasSuffix(err.Error(), want) || want == "" && strings.Contains(err.Error(), "at character") {
			t.Errorf("%q: %v, want it to end with %q", tag, err, want)
		}
	}
	if _, err := Names([]string{"Reg.io:5000/team/app_x:V1"}, "0123456789ab"); err != nil {
		t.Error(err)
	}
}
