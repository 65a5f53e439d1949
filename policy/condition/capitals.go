package condition

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// comparing are the functions that hold a text against another one.
var comparing = []string{"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "startsWith", "endsWith", "contains", "matches"}

// Capitals returns the constants with a capital letter A to Z that a path is compared with. A line that must not be dodged sees the path in
// lower case as well, which such a constant never equals: /ADMIN would be neither /Admin nor /admin.
func (c *Condition) Capitals() []*Error { return slices.Clone(c.capitals) }

// capitalsIn looks for them in every comparison that has a path on one side, and in the list that a loop around one goes through.
func (s *scanner) capitalsIn(parsed *cel.Ast) (found []*Error) {
	seen := map[int64]bool{}
	note := func(of ast.Expr, isPattern bool) {
		ast.PreOrderVisit(of, ast.NewExprVisitor(func(e ast.Expr) {
			text, ok := literal(e)
			if !ok || seen[e.ID()] || !isPattern && !hasCapital(text) || isPattern && !patternHasCapital(text) {
				return
			}
			seen[e.ID()] = true
			write := fmt.Sprintf("%q", strings.ToLower(text))
			if isPattern {
				write = fmt.Sprintf("%q, which ignores case", "(?i)"+text)
			}
			at := s.info.GetStartLocation(e.ID())
			found = append(found, &Error{Line: at.Line(), Column: at.Column() + 1, Wrong: fmt.Sprintf("%q has a capital letter, and the path is compared in lower case, too, so that nobody dodges the line", text), Write: write})
		}))
	}
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			if looksAtPath(e) {
				note(e.AsComprehension().IterRange(), false)
			}
		case ast.CallKind:
			call := e.AsCall()
			if !slices.Contains(comparing, call.FunctionName()) || !looksAtPath(e) {
				return
			}
			sides := call.Args()
			if call.IsMemberFunction() {
				sides = append(slices.Clone(sides), call.Target())
			}
			for _, side := range sides {
				if !compares(side) { // (request.path == "/a") == (user.name == "Boss")
					note(side, call.FunctionName() == "matches")
				}
			}
		}
	}))
	return found
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
