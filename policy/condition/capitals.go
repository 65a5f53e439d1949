package condition

import (
	"regexp/syntax"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// comparing are the functions that hold a text against another one.
var comparing = []string{"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "startsWith", "endsWith", "contains", "matches"}

// Folded returns the expression with the constants that a path is compared with in lower case, nil when they are already. A line that must
// not be dodged sees the path in lower case as well, which a constant with a capital letter never equals: /ADMIN would be neither /Admin
// nor /admin.
func (c *Condition) Folded() *Condition { return c.folded }

// foldConstants changes these constants, and patterns so that they ignore case, and reports whether there were any.
func foldConstants(parsed *cel.Ast) (changed bool) {
	factory := ast.NewExprFactory()
	fold := func(of ast.Expr, isPattern bool) {
		ast.PostOrderVisit(of, ast.NewExprVisitor(func(e ast.Expr) {
			switch text, ok := literal(e); {
			case !ok:
				return
			case isPattern && patternHasCapital(text):
				e.SetKindCase(factory.NewLiteral(e.ID(), types.String("(?i)"+text)))
			case !isPattern && hasCapital(text):
				e.SetKindCase(factory.NewLiteral(e.ID(), types.String(lower(text))))
			default:
				return
			}
			changed = true
		}))
	}
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind: // ["/A", "/B"].exists(x, request.path.startsWith(x))
			if looksAtPath(e) {
				fold(e.AsComprehension().IterRange(), false)
			}
		case ast.CallKind:
			call := e.AsCall()
			if !slices.Contains(comparing, call.FunctionName()) || !looksAtPath(e) {
				return
			}
			sides := slices.Clone(call.Args())
			if call.IsMemberFunction() {
				sides = append(sides, call.Target())
			}
			for _, side := range sides {
				if !compares(side) { // (request.path == "/a") == (user.name == "Boss")
					fold(side, call.FunctionName() == "matches")
				}
			}
		}
	}))
	return changed
}

// lower returns a text with the letters A to Z in lower case, as paths are folded.
func lower(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

// looksAtPath reports whether an expression looks at the path or a part of it.
func looksAtPath(e ast.Expr) (found bool) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if name, ok := nameOf(e); ok && (name == "request.path" || strings.HasPrefix(name, "path.")) {
			found = true
		}
	}))
	return found
}

// compares reports whether an expression is or holds a comparison.
func compares(e ast.Expr) (found bool) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.CallKind && slices.Contains(comparing, e.AsCall().FunctionName())
	}))
	return found
}

func hasCapital(text string) bool { return strings.ContainsAny(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") }

// patternHasCapital reports whether a pattern takes some capital letter and not the small one, or cannot be read.
func patternHasCapital(pattern string) bool {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	return err != nil || hasCapitalPart(parsed)
}

func hasCapitalPart(r *syntax.Regexp) bool {
	switch r.Op {
	case syntax.OpLiteral:
		return r.Flags&syntax.FoldCase == 0 && hasCapital(string(r.Rune))
	case syntax.OpCharClass:
		takes := func(c rune) bool {
			for i := 0; i+1 < len(r.Rune); i += 2 {
				if r.Rune[i] <= c && c <= r.Rune[i+1] {
					return true
				}
			}
			return false
		}
		for c := 'A'; c <= 'Z'; c++ {
			if takes(c) && !takes(c+'a'-'A') {
				return true
			}
		}
	}
	return slices.ContainsFunc(r.Sub, hasCapitalPart)
}
