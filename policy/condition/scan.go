package condition

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// scanner goes through a parsed expression before it is checked: for the names, whose mistakes it can explain better than a checker,
// and for the constants that are read now.
type scanner struct {
	info         *ast.SourceInfo
	vars, claims []string
	bound        []string // variables of loops
	turns        []int    // how often each of these goes round; -1: as often as a list of the user is long
	matches      []match
	names        map[string]bool
	mentions     map[string][]string
	tables       tables
	errs         mistakes
}

// mistakes are all that is wrong with an expression.
type mistakes []*Error

func (m mistakes) join() error {
	all := make([]error, len(m))
	for i, e := range m {
		all[i] = e
	}
	return joined(all)
}

func scan(parsed *cel.Ast, vars, claims []string) *scanner {
	tree := parsed.NativeRep()
	s := &scanner{info: tree.SourceInfo(), vars: vars, claims: claims, names: map[string]bool{}, mentions: map[string][]string{},
		tables: tables{zones: map[string]*time.Location{}, networks: map[string]netip.Prefix{}}}
	s.expr(tree.Expr())
	return s
}

// options declares what this expression needs besides what all have.
func (s *scanner) options() []cel.EnvOption {
	options := s.tables.options()
	for name := range s.names {
		if known[name] == nil {
			options = append(options, cel.Variable(name, cel.StringType), cel.Variable(presence+name, cel.BoolType))
		}
	}
	return options
}

func (s *scanner) wrong(id int64, wrong, write string) {
	at := s.info.GetStartLocation(id)
	s.errs = append(s.errs, &Error{Line: at.Line(), Column: at.Column() + 1, Wrong: wrong, Write: write})
}

func (s *scanner) expr(e ast.Expr) {
	switch e.Kind() {
	case ast.IdentKind:
		s.ident(e)
	case ast.SelectKind:
		if name, ok := nameOf(e); ok && !slices.Contains(s.bound, e.AsSelect().Operand().AsIdent()) {
			s.name(e.AsSelect().Operand().ID(), name)
			return
		}
		s.expr(e.AsSelect().Operand())
	case ast.CallKind:
		s.call(e)
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			s.expr(element)
		}
	case ast.ComprehensionKind:
		s.loop(e.AsComprehension(), e.ID())
	case ast.MapKind:
		s.wrong(e.ID(), "it makes a map", "a list in brackets, such as `[\"a\", \"b\"]`")
	case ast.StructKind:
		s.wrong(e.ID(), "it makes a message", "a comparison")
	}
}

// ident is a word without a dot that is no function.
func (s *scanner) ident(e ast.Expr) {
	word := e.AsIdent()
	if name, ok := strings.CutPrefix(word, presence); ok {
		s.name(e.ID(), name)
		return
	}
	if slices.Contains(s.bound, word) || strings.HasPrefix(word, "@") || strings.HasPrefix(word, "__") {
		return
	}
	if slices.Contains(roots, word) {
		s.wrong(e.ID(), fmt.Sprintf("%q alone is nothing", word), "a name such as `"+example(word)+"`")
		return
	}
	s.wrong(e.ID(), fmt.Sprintf("%q is no name", word), s.near(word))
}

func (s *scanner) loop(c ast.ComprehensionExpr, id int64) {
	s.expr(c.IterRange())
	if slices.Contains(roots, c.IterVar()) {
		s.wrong(id, fmt.Sprintf("%q is already the name of something else", c.IterVar()), "another word for each element, such as `x`")
		return
	}
	turns := -1
	if c.IterRange().Kind() == ast.ListKind {
		turns = len(c.IterRange().AsList().Elements())
	}
	s.bound, s.turns = append(s.bound, c.IterVar()), append(s.turns, turns)
	for _, e := range []ast.Expr{c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
		s.expr(e)
	}
	s.bound, s.turns = s.bound[:len(s.bound)-1], s.turns[:len(s.turns)-1]
}

func (s *scanner) call(e ast.Expr) {
	call := e.AsCall()
	if call.IsMemberFunction() {
		s.expr(call.Target())
		switch name := call.FunctionName(); name {
		case "map", "filter":
			s.wrong(e.ID(), name+" is not available here", "`exists` or `all`, such as `user.roles.exists(r, r.startsWith(\"ward\"))`")
			return
		case "all", "exists", "exists_one":
			s.wrong(e.ID(), name+" needs a word for each element, and what it asks of it", "`user.roles."+name+"(r, r.startsWith(\"ward\"))`")
			return
		}
	}
	for _, arg := range call.Args() {
		s.expr(arg)
	}
	s.constants(call)
	s.mention(call)
}

// mention keeps the constants that are compared with a name, or looked for in its list.
func (s *scanner) mention(call ast.CallExpr) {
	args := call.Args()
	if len(args) != 2 || call.IsMemberFunction() {
		return
	}
	note := func(e ast.Expr, values ...ast.Expr) {
		name, ok := nameOf(e)
		if !ok || name != "user.roles" && name != "user.groups" && name != "user.idp" && name != "user.org" {
			return
		}
		for _, v := range values {
			if text, ok := literal(v); ok && !slices.Contains(s.mentions[name], text) {
				s.mentions[name] = append(s.mentions[name], text)
			}
		}
	}
	switch call.FunctionName() {
	case "@in":
		note(args[1], args[0])
		if args[1].Kind() == ast.ListKind {
			note(args[0], args[1].AsList().Elements()...)
		}
	case "_==_", "_!=_":
		note(args[0], args[1])
		note(args[1], args[0])
	}
}

// warn says what is allowed and hardly meant, of an expression whose types are known.
func (s *scanner) warn(checked *cel.Ast) (found []*Error) {
	tree := checked.NativeRep()
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		if !call.IsMemberFunction() || len(call.Args()) > 0 || !strings.HasPrefix(call.FunctionName(), "get") || tree.GetType(call.Target().ID()).Kind() != types.TimestampKind {
			return
		}
		at := s.info.GetStartLocation(e.ID())
		found = append(found, &Error{Line: at.Line(), Column: at.Column() + 1, Wrong: call.FunctionName() + "() without a zone is in UTC",
			Write: "the zone, such as `" + call.FunctionName() + "(\"Europe/Brussels\")`, or `\"UTC\"`"})
	}))
	return found
}
