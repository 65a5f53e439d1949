package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// secretName are the last words of a name that stand for something that nobody may guess byte by byte.
var secretName = regexp.MustCompile(`(?i)(^|[a-z0-9_])(secret|password|pepper|filekey|token|mac|tag|nonce|state|verifier|challenge|confirm)$`)

// keyName names the bytes of a key, where they are compared as bytes.
var keyName = regexp.MustCompile(`(^|[a-z0-9_])[kK]ey$`)

// leaks says what is wrong with comparisons in a file: they end at the first byte that differs, and how long that takes tells a
// stranger how much of his guess is right.
func leaks(file *ast.File) (lines []string) {
	at := func(n ast.Node, name string) {
		lines = append(lines, fileSet.Position(n.Pos()).String()+": "+name)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if n.Op != token.EQL && n.Op != token.NEQ || public(n.X) || public(n.Y) {
				return true
			}
			if x, y := lastName(n.X), lastName(n.Y); secretName.MatchString(x) && secretName.MatchString(y) {
				at(n, x)
			}
		case *ast.CallExpr:
			if len(n.Args) != 2 || !slices.Contains([]string{"bytes.Equal", "slices.Equal", "strings.EqualFold"}, dotted(n.Fun)) {
				return true
			}
			for _, arg := range n.Args {
				if name := lastName(arg); secretName.MatchString(name) || keyName.MatchString(name) {
					at(n, name)
					return true
				}
			}
		}
		return true
	})
	return lines
}

// public is what everybody knows: a literal, nil, or a constant of the same file.
func public(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return e.Name == "nil" || e.Name == "true" || e.Name == "false" || e.Obj != nil && e.Obj.Kind == ast.Con
	}
	return false
}

// lastName is the last word of an operand: Key of a.b.Key, of string(a.Key) and of a.Key[:].
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.ParenExpr:
		return lastName(e.X)
	case *ast.StarExpr:
		return lastName(e.X)
	case *ast.SliceExpr:
		return lastName(e.X)
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.Ident); len(e.Args) == 1 && (!ok || f.Name != "len") {
			return lastName(e.Args[0])
		}
	}
	return ""
}

func dotted(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name + "." + s.Sel.Name
		}
	}
	return ""
}

// notSecret are comparisons of what only has such a name, with the reason.
var notSecret = map[string]string{
	"caddymodule/bearer.go ClientSecret":        "both are the operator's own config",
	"caddymodule/identity_oidc.go ClientSecret": "both are the operator's own config",
	"emergency/review.go State":                 "open, accepted, …",
	"identity/oidc/dpop.go dpopToken":           "the word DPoP",
	"session/caller.go Token":                   "SHA-256 of a token that was found good before",
}

// TestRow160ConstantTime: no package of the product compares secrets in a way that tells how much of them is right.
func TestRow160ConstantTime(t *testing.T) {
	constant := 0
	for _, s := range goFiles(t) {
		top, _, _ := strings.Cut(filepath.ToSlash(s.path), "/")
		if s.test() || slices.Contains([]string{"upstreams", "integration", "docs", "cmd"}, top) {
			continue
		}
		constant += strings.Count(s.text, "subtle.ConstantTimeCompare(") + strings.Count(s.text, "hmac.Equal(")
		for _, line := range leaks(s.file) {
			_, name, _ := strings.Cut(line, ": ")
			if notSecret[filepath.ToSlash(s.path)+" "+name] == "" {
				t.Errorf("%s is compared byte by byte; use crypto/subtle", line)
			}
		}
	}
	if constant < 10 {
		t.Errorf("%d comparisons in constant time: the check saw nothing", constant)
	}
	for code, bad := range map[string]bool{
		"bytes.Equal(v.Key, was.Key)": true, "string(a.tag) == string(b.tag)": true, "slices.Equal(o.fileKey, k)": true,
		"token != want.token[:]": true, "strings.EqualFold(cookie.Token, t)": true,
		`token == ""`: false, "subtle.ConstantTimeCompare(tag, other.tag) == 1": false, "bytes.Equal(record, old)": false, "len(tag) == wantTag": false, "key == other.key": false,
	} {
		file, err := parser.ParseFile(fileSet, "x.go", "package x\nvar _ = "+code, 0)
		if err != nil {
			t.Fatal(err)
		}
		if found := leaks(file); (len(found) > 0) != bad {
			t.Errorf("%s: %q", code, found)
		}
	}
}
