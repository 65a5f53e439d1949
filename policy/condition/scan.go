package condition

import (
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
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
	s.bound = append(s.bound, c.IterVar())
	for _, e := range []ast.Expr{c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
		s.expr(e)
	}
	s.bound = s.bound[:len(s.bound)-1]
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

// constants reads the arguments that are fixed when the expression is.
func (s *scanner) constants(call ast.CallExpr) {
	args := call.Args()
	isPart := slices.ContainsFunc(parts, func(p struct {
		name, without string
		of            func(time.Time) int
	}) bool {
		return p.name == call.FunctionName()
	})
	switch name := call.FunctionName(); {
	case isPart && call.IsMemberFunction() && len(args) == 1:
		const write = "a name such as `\"Europe/Brussels\"` or `\"UTC\"`"
		zone, ok := literal(args[0])
		if !ok {
			s.wrong(args[0].ID(), "the zone is no text between quotes", write)
			return
		}
		location, fault := loadZone(zone)
		if fault != "" {
			s.wrong(args[0].ID(), fmt.Sprintf("%q is no time zone: %s", zone, fault), write)
			return
		}
		s.tables.zones[zone] = location
	case name == "inNetwork" && !call.IsMemberFunction() && len(args) == 2:
		const write = "one such as `\"10.0.0.0/8\"` or `\"192.0.2.7\"`"
		network, ok := literal(args[1])
		if !ok {
			s.wrong(args[1].ID(), "the network is no text between quotes", write)
			return
		}
		prefix, fault := loadNetwork(network)
		if fault != "" {
			s.wrong(args[1].ID(), fmt.Sprintf("%q is no network: %s", network, fault), write)
			return
		}
		s.tables.networks[network] = prefix
	case name == "matches" && len(args) > 0:
		pattern, ok := literal(args[len(args)-1])
		if !ok {
			s.wrong(args[len(args)-1].ID(), "the pattern is no text between quotes", "one such as `request.path.matches(\"^/x[0-9]+$\")`")
		} else if len(pattern) > maxPattern {
			s.wrong(args[len(args)-1].ID(), fmt.Sprintf("the pattern is longer than %d characters", maxPattern), "several, with `||` between them")
		} else if steps, err := stepsOf(pattern); err != nil {
			s.wrong(args[len(args)-1].ID(), "the pattern cannot be read: "+oneLine(err.Error()), "a pattern of RE2, such as `\"^/x[0-9]+$\"`")
		} else if steps > maxRegexp {
			s.wrong(args[len(args)-1].ID(), fmt.Sprintf("the pattern has %d parts when its repetitions are written out, more than %d", steps, maxRegexp), "it with fewer or smaller repetitions")
		}
	case (name == "timestamp" || name == "duration") && !call.IsMemberFunction() && len(args) == 1:
		s.moment(name, args[0])
	}
}

// stepsOf returns how many instructions a pattern has. CEL's own limit, cel.RegexProgramSizeLimit, panics at a repetition such as {3},
// since it compiles without simplifying first.
func stepsOf(pattern string) (int, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return 0, err
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	return len(program.Inst), nil
}

// moment reads what timestamp and duration are about.
func (s *scanner) moment(name string, arg ast.Expr) {
	text, ok := literal(arg)
	var err error
	write := "`timestamp(\"2026-12-31T00:00:00Z\")`"
	if name == "timestamp" {
		_, err = time.Parse(time.RFC3339, text)
	} else {
		write = "`duration(\"8h\")`"
		_, err = time.ParseDuration(text)
	}
	if !ok {
		s.wrong(arg.ID(), "what "+name+" reads is no text between quotes", write)
	} else if err != nil {
		s.wrong(arg.ID(), fmt.Sprintf("%q is no %s", text, name), write)
	}
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

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
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
