package main

import (
	"strconv"
	"strings"

	"github.com/kedge-build/kedge"
	"github.com/tonistiigi/go-csvvalue"
	"github.com/urfave/cli/v2"
)

func policyFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "policy", Hidden: true, Usage: "disabled=true: build although there is a DOCKERFILE.rego"}
}

// refuse returns an error for settings that docker build honours and kedge does not, and that it must not
// ignore silently. It applies to the verbs that build.
func (p *process) refuse(c *cli.Context, o *kedge.Options) error {
	if c.Command.Name != "build" && c.Command.Name != "verify" {
		return nil
	}
	if value := p.env["DOCKER_BUILDKIT"]; value != "" {
		on, err := strconv.ParseBool(value)
		if err != nil {
			return usagef("DOCKER_BUILDKIT=%s is not a boolean", value)
		}
		if !on {
			return usagef("DOCKER_BUILDKIT=%s asks for docker's old builder, and kedge builds with BuildKit: unset it", value)
		}
	}
	if path := p.env["EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"]; path != "" {
		return usagef("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY is set: kedge's lock says what a build may fetch, and no other policy is applied: unset it, and lock what it pins")
	}
	for _, value := range c.StringSlice("policy") {
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			return usagef("policy %q: %v", value, err)
		}
		for _, field := range fields {
			key, v, _ := strings.Cut(field, "=")
			if on, err := strconv.ParseBool(v); key != "disabled" || err != nil || !on {
				return usagef("policy %q: kedge's lock says what a build may fetch, and no other policy is applied: leave it out, and commit the lockfile", value)
			}
			o.IgnorePolicy = true
		}
	}
	return nil
}

// refuseArgs returns an error for such build args.
func refuseArgs(args map[string]string) error {
	if syntax, ok := args["BUILDKIT_SYNTAX"]; ok && strings.TrimSpace(syntax) == "" {
		return usagef("empty BUILDKIT_SYNTAX build-arg is invalid, use --build-arg BUILDKIT_SYNTAX without '=' for optional behavior")
	}
	return nil
}
