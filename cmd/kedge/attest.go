package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kedge-build/kedge/builder"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
)

// attestFlags say which attestations an image has. By default it has none; docs/outputs.md says why.
func attestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "attest", Usage: "attach an attestation, `type=provenance|sbom`,..., with docker's attributes"},
		&cli.StringFlag{Name: "provenance", Usage: "attach provenance: true, false or `ATTRIBUTES`; short for --attest type=provenance"},
		&cli.StringFlag{Name: "sbom", Usage: "attach a list of the image's contents: true, false or `ATTRIBUTES`; short for --attest type=sbom"},
	}
}

// attest reads these flags as docker does. For each type the first one counts.
func attest(c *cli.Context) (builder.Attest, error) {
	said := slices.Clone(c.StringSlice("attest"))
	for _, kind := range []string{"provenance", "sbom"} {
		value := c.String(kind)
		if on, err := strconv.ParseBool(value); err == nil {
			value = "disabled=" + strconv.FormatBool(!on)
		}
		if value != "" {
			said = append(said, "type="+kind+","+value)
		}
	}
	types, decided := map[string]string{}, map[string]bool{}
	for _, value := range said {
		kind, attrs, on, err := parseAttest(value)
		if err != nil {
			return builder.Attest{}, err
		}
		if !decided[kind] && on {
			types[kind] = attrs
		}
		decided[kind] = true
	}
	if len(types) == 0 {
		return builder.Attest{}, nil
	}
	return builder.Attest{Types: types, Names: c.StringSlice("tag")}, nil
}

// parseAttest reads type=TYPE[,disabled=BOOL][,KEY=VALUE...].
func parseAttest(value string) (kind, attrs string, on bool, err error) {
	fields, err := csvvalue.Fields(value, nil)
	if err != nil {
		return "", "", false, usagef("attestation %q: %v", value, err)
	}
	on = true
	rest := map[string]string{}
	for _, field := range fields {
		key, v, ok := strings.Cut(field, "=")
		if !ok {
			return "", "", false, usagef("attestation %q: %q is not KEY=VALUE", value, field)
		}
		switch strings.TrimSpace(strings.ToLower(key)) {
		case "type":
			kind = v
		case "disabled":
			off, err := strconv.ParseBool(v)
			if err != nil {
				return "", "", false, usagef("attestation %q: %q is neither true nor false", value, v)
			}
			on = !off
		default:
			rest[key] = v
		}
	}
	if kind != "provenance" && kind != "sbom" {
		return "", "", false, usagef("attestation %q: type=%s is not provenance or sbom", value, kind)
	}
	// The daemon parses the same CSV syntax, so a value with a comma must be quoted.
	words := []string{"type=" + kind}
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		word := key + "=" + rest[key]
		if strings.ContainsAny(word, `,"`) {
			word = `"` + strings.ReplaceAll(word, `"`, `""`) + `"`
		}
		words = append(words, word)
	}
	return kind, strings.Join(words, ","), on, nil
}
