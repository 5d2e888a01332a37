package frontend

// ArgsLabel is the label of an image that names the build args it was built with.
const ArgsLabel = "dev.kedge.args"

// TargetLabel is the label of an image of a target that its lock does not declare.
const TargetLabel = "dev.kedge.target"

// ClientLocks is the option that tells kedge's own frontend that kedge is the client, and holds the build to a
// lock which the context does not have. Other frontends ignore it.
const ClientLocks = "kedge-locks"
