package kedge

import "os"

// PolicyError says that a policy lies beside the Dockerfile, which docker build would apply.
type PolicyError struct{ Path string }

func (e *PolicyError) Error() string {
	return e.Path + ": docker build applies this policy, and kedge does not"
}

// checkPolicy finds a policy that nobody has said to pass over.
func (p *project) checkPolicy() error {
	if p.IgnorePolicy {
		return nil
	}
	const suffix = ".rego" // as docker buildx names it
	if path := p.input.dockerfile.Path; path != "" {
		if _, err := os.Lstat(path + suffix); err == nil {
			return &PolicyError{Path: path + suffix}
		}
	}
	if p.policy {
		return &PolicyError{Path: p.Dockerfile + suffix}
	}
	return nil
}
