package policy

import "slices"

// New compiles.
func New(c Config) (*Policy, error) { return Compile(c.Lines) }

// Warnings returns what New found that is no error.
func (p *Policy) Warnings() []*Problem { return nil }

// ParsePath is ParsePathWith with the exceptions of the policy.
func (p *Policy) ParsePath(escaped string) (Path, error) { return ParsePathWith(escaped, Exceptions{}) }

// Shadow returns nil when there are no shadow lines.
func (p *Policy) Shadow() *Policy { return nil }

// Emergency says whether the person may break the glass.
func (p *Policy) Emergency(r Request) (Emergency, bool) { return Emergency{}, false }

// Break says whether a grant covers a request.
func (p *Policy) Break(r Request, e Emergency) bool { return false }

// HasEmergency reports whether there are break_glass lines.
func (p *Policy) HasEmergency() bool { return false }

// HasBudgets reports whether there are budget lines.
func (p *Policy) HasBudgets() bool { return false }

// Counts yields what budget lines count.
func (p *Policy) Counts(r Request, yield func(Count) bool) {}

// Uses says what decisions can depend on.
func (p *Policy) Uses() Uses { return Uses{} }

// Shape returns a path without what is somebody's.
func (p *Policy) Shape(r Request) string { return "" }

// Explain says why.
func (p *Policy) Explain(r Request) Explanation { return Explanation{Decision: p.Decide(r)} }

// Lines returns all lines.
func (p *Policy) Lines() []LineInfo { return slices.Clone([]LineInfo(nil)) }
