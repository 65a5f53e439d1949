// Package condition compiles and evaluates the expressions after `when` in a line of a policy. They are written in CEL, the Common
// Expression Language (cel.dev), and see one request and nothing else.
//
// Call Compile once for each line, Eval for each request that the line is about. A Condition is safe for concurrent use.
//
// The names are, with their types in CEL:
//
//   - request.method, request.path, request.query, request.host (string), request.time (timestamp), request.address
//   - user.name, user.org, user.idp, user.acr (string), user.roles, user.groups, user.amr (list of strings), user.auth_time
//     (timestamp), user.device_known (bool)
//   - path.NAME for each variable of the line's paths, claim.NAME for each claim of the session (string)
//
// has(NAME) asks whether a name has a value. Without one it has none, not even an empty one: an expression that needs it has no
// answer then, and Eval returns an error, on which the caller denies. That holds for a claim that the sign-in did not bring, for
// user.… when nobody is signed in, for an empty user.org, and for a time or an address that is not known. As always in CEL
// `true || x` is true and `false && x` is false whatever x is, on either side.
//
// Of CEL's functions and macros those stay that are about texts, numbers, times and lists; all, exists and exists_one go through a
// list. What makes new lists, asks for types, or parses something that came with the request is left out: dyn, type, bytes, map,
// filter, messages. inNetwork(request.address, "10.0.0.0/8") is added. A pattern of matches (RE2: linear in its input), a zone and a
// network are constants, and are read at Compile.
//
// Whoever writes an expression is trusted, and whoever sends the request is not: the cost of an expression is estimated for the
// longest texts and usual lists when it is compiled, counted when it is evaluated for longer lists, and limited in both. What all
// conditions of one decision cost together is for the caller to bound: Steps says what one will cost.
package condition

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Input is what one expression can see of a request. Eval keeps none of it.
type Input struct {
	Method   string
	Path     string // percent-decoded
	Query    string // as received, without "?"
	Host     string
	Time     time.Time  // zero: not known
	Addr     netip.Addr // the zero Addr: not known
	SignedIn bool       // somebody is: without it User has no values
	User     User
	Claims   map[string]string                // of the sign-in; an empty one is none
	Vars     func(name string) (string, bool) // of the path; nil: there are none
}

// User is who is asking.
type User struct {
	Name          string
	Roles, Groups []string
	Org, IDP, ACR string
	AMR           []string
	AuthTime      time.Time
	Device        bool // the browser is known
}

// Condition is one compiled expression. A nil Condition has no answer.
type Condition struct {
	program  cel.Program // for a request that is no longer than the estimate reckoned with
	counting cel.Program // for any other; nil: its length has no part in the cost
	text     string
	names    map[string]bool // what it looks at: "request.path", "claim.dept"
	mentions map[string][]string
	warnings []*Error
	folded   *Condition
	costs    [len(sizes)]int
	matches  []match
}

// Error is one mistake in an expression.
type Error struct {
	Line, Column int    // of the text, from 1; Column in characters; 0: it is about all of it
	Wrong        string // what is wrong
	Write        string // what to write instead
}

// Error returns place, fault and remedy as one line of text.
func (e *Error) Error() string {
	text := e.Wrong + "; write " + e.Write
	switch {
	case e.Line > 1:
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, text)
	case e.Column > 0:
		return fmt.Sprintf("column %d: %s", e.Column, text)
	}
	return text
}

// ErrNoAnswer is wrapped by every error of Eval.
var ErrNoAnswer = errors.New("condition without an answer")

// Compile reads an expression. vars are the variables of the line's paths; claims those that a session can have, nil when that is
// not known. The error joins one *Error for each mistake.
func Compile(text string, vars, claims []string) (*Condition, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	base, err := environment()
	if err != nil {
		return nil, err
	}
	parsed, issues := base.Parse(text)
	if issues.Err() != nil {
		return nil, explain(issues, text)
	}
	s := scan(parsed, vars, claims)
	if len(s.errs) > 0 {
		return nil, s.errs.join()
	}
	env, err := base.Extend(s.options()...)
	if err != nil {
		return nil, fmt.Errorf("preparing an expression: %w", err)
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, explain(issues, text)
	}
	if checked.OutputType() != types.BoolType {
		return nil, &Error{Wrong: fmt.Sprintf("it is %s, and neither true nor false", article(checked.OutputType())), Write: "a comparison, such as `user.acr == \"mfa\"`"}
	}
	bounded, err := checkCost(env, checked)
	if err != nil {
		return nil, err
	}
	c := &Condition{text: text, names: s.names, mentions: s.mentions, warnings: s.warn(checked), matches: s.matches}
	if err := c.prepare(env, checked, bounded); err != nil {
		return nil, err
	}
	if parsed, issues = base.Parse(text); issues.Err() != nil || !foldConstants(parsed) { // checking had changed what was parsed
		return c, issues.Err()
	}
	if checked, issues = env.Check(parsed); issues.Err() != nil {
		return nil, explain(issues, text)
	}
	c.folded = &Condition{text: text, names: s.names, matches: s.matches}
	return c, c.folded.prepare(env, checked, bounded)
}

// prepare makes the programs of an expression that was checked.
func (c *Condition) prepare(env *cel.Env, checked *cel.Ast, bounded bool) (err error) {
	c.program, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err == nil && !bounded {
		c.counting, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	}
	if err == nil {
		c.costs, err = estimates(env, checked)
	}
	if err != nil {
		return &Error{Wrong: "it cannot be prepared: " + oneLine(err.Error()), Write: "it in another way"}
	}
	return nil
}

// checkText looks at what can be said without a parser.
func checkText(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return &Error{Wrong: "it is empty", Write: "what has to be true, such as `request.time.getHours(\"Europe/Brussels\") < 20`"}
	case len(text) > maxText:
		return &Error{Wrong: fmt.Sprintf("it is longer than %d bytes", maxText), Write: "several lines of the policy"}
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return &Error{Wrong: "it is no text in UTF-8", Write: "it in UTF-8"}
	}
	return nil
}

// Eval returns the answer for one request, or an error when there is none: a name without a value, an overflow, a cost over the
// limit. The caller must deny then.
func (c *Condition) Eval(in *Input) (bool, error) {
	if c == nil || in == nil {
		return false, ErrNoAnswer
	}
	program := c.program
	if c.counting != nil && !in.isShort() {
		program = c.counting
	}
	out, _, err := program.Eval((*activation)(in))
	if err != nil {
		return false, &noAnswer{err}
	}
	answer, ok := out.(types.Bool)
	if !ok {
		return false, ErrNoAnswer
	}
	return bool(answer), nil
}

// noAnswer keeps the reason for whoever explains a decision. It is made for a request, and formatted for people only.
type noAnswer struct{ reason error }

func (e *noAnswer) Error() string {
	text := oneLine(e.reason.Error())
	if name, ok := strings.CutPrefix(text, "no such attribute(s): "); ok {
		return ErrNoAnswer.Error() + ": " + name + " has no value"
	}
	return ErrNoAnswer.Error() + ": " + text
}

func (e *noAnswer) Unwrap() error { return ErrNoAnswer }

// Text returns the expression as it was written.
func (c *Condition) Text() string { return c.text }

// Warnings returns what is allowed and hardly meant.
func (c *Condition) Warnings() []*Error { return slices.Clone(c.warnings) }

// Uses reports whether the expression looks at a name, such as "request.time", "path.id" or "claim.dept".
func (c *Condition) Uses(name string) bool { return c.names[name] }

// UsesTime reports whether the answer can depend on the time.
func (c *Condition) UsesTime() bool { return c.names["request.time"] }

// UsesUser reports whether the answer can depend on who is asking.
func (c *Condition) UsesUser() bool {
	for name := range c.names {
		if strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "claim.") {
			return true
		}
	}
	return false
}

// Names returns all names that the expression looks at, sorted.
func (c *Condition) Names() []string { return slices.Sorted(maps.Keys(c.names)) }

// Mentions returns the constants that a name is compared with, or looked for in, for the names user.roles, user.groups, user.idp and
// user.org: what has to exist for the expression to make sense.
func (c *Condition) Mentions(name string) []string { return slices.Clone(c.mentions[name]) }

// Constant returns the answer of an expression that looks at nothing.
func (c *Condition) Constant() (answer, ok bool) {
	if len(c.names) > 0 {
		return false, false
	}
	answer, err := c.Eval(&Input{})
	return answer, err == nil
}
