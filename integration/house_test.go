package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the house that a program can check. CONTRIBUTING.md has them for people.

// source is one Go file of the tree.
type source struct {
	path  string // from the root
	file  *ast.File
	lines int
	text  string
}

var fileSet = token.NewFileSet()

// goFiles parses every Go file of ours.
func goFiles(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fileSet, path, b, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, source{rel, file, strings.Count(string(b), "\n"), string(b)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("%d Go files: the check saw nothing", len(all))
	}
	return all
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func TestHouseFiles(t *testing.T) {
	comments := map[string]int{} // folder → lines of its package comment
	for _, s := range goFiles(t) {
		if s.lines > 500 {
			t.Errorf("%s has %d lines; 500 at most, one file has one subject", s.path, s.lines)
		}
		dir := filepath.Dir(s.path)
		if s.file.Name.Name != "main" && !s.test() {
			if s.file.Doc != nil {
				comments[dir] += strings.Count(strings.TrimSpace(s.file.Doc.Text()), "\n") + 1
				if want := filepath.Join(dir, s.file.Name.Name+".go"); s.path != want {
					t.Errorf("the package comment stands in %s, not in %s", s.path, want)
				}
			} else {
				comments[dir] += 0
			}
		}
		if forbidden := []string{"util", "common", "helpers", "types", "errors", "config", "models"}; slices.Contains(forbidden, s.file.Name.Name) {
			t.Errorf("%s: a package called %s says nothing of what is in it", s.path, s.file.Name.Name)
		}
		for _, group := range s.file.Comments {
			if text := group.Text(); regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`).MatchString(text) {
				t.Errorf("%s: %q", fileSet.Position(group.Pos()), strings.TrimSpace(text))
			}
		}
		if s.test() && regexp.MustCompile(`\b[tb]\.Skip(f|Now)?\(`).MatchString(s.text) {
			t.Errorf("%s skips tests", s.path)
		}
	}
	for dir, lines := range comments {
		least := 8
		if strings.HasSuffix(dir, "test") {
			least = 5 // a double or a suite needs fewer words
		}
		if lines < least || lines > 40 {
			t.Errorf("the package comment of %s has %d lines, want %d to 40", dir, lines, least)
		}
	}
}

func TestHouseFunctions(t *testing.T) {
	long, all := 0, 0
	for _, s := range goFiles(t) {
		if s.test() {
			continue
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			all++
			lines := fileSet.Position(f.End()).Line - fileSet.Position(f.Pos()).Line + 1
			if lines > 60 {
				long++
			}
			if lines > 100 {
				t.Errorf("%s: %s has %d lines", fileSet.Position(f.Pos()), f.Name.Name, lines)
			}
		}
	}
	if long*20 > all {
		t.Errorf("%d of %d functions have more than 60 lines", long, all)
	}
}

// TestHouseErrors: few sentinels, one value for each meaning, and texts that read well in a chain.
func TestHouseErrors(t *testing.T) {
	exported := map[string][]string{}
	texts := map[string]string{}
	for _, s := range goFiles(t) {
		if s.test() || strings.HasPrefix(s.path, "integration/") {
			continue
		}
		dir := filepath.Dir(s.path)
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if !ast.IsExported(name.Name) || !strings.HasPrefix(name.Name, "Err") {
						continue
					}
					exported[dir] = append(exported[dir], name.Name)
					if i < len(n.Values) {
						if text := errorText(n.Values[i]); text != "" {
							if other, twice := texts[text]; twice {
								t.Errorf("%s.%s and %s have the same text %q", dir, name.Name, other, text)
							}
							texts[text] = dir + "." + name.Name
						}
					}
				}
			case *ast.CallExpr:
				text := errorText(n)
				if regexp.MustCompile(`^[A-Z][a-z]`).MatchString(text) || regexp.MustCompile(`[.!]$`).MatchString(text) {
					t.Errorf("%s: %q starts with a capital or ends with a full stop", fileSet.Position(n.Pos()), text)
				}
			}
			return true
		})
	}
	for dir, names := range exported {
		if len(names) > 6 {
			t.Errorf("%s exports %d error values, six at most: %v", dir, len(names), names)
		}
	}
	if len(texts) < 10 {
		t.Fatalf("only %d error texts were found", len(texts))
	}
}

// errorText is the text of errors.New("…") or fmt.Errorf("…", …).
func errorText(e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return ""
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != "New" && selector.Sel.Name != "Errorf" {
		return ""
	}
	if pkg, ok := selector.X.(*ast.Ident); !ok || pkg.Name != "errors" && pkg.Name != "fmt" {
		return ""
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		return ""
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return text
}

// TestHouseDocs: what a stranger meets first.
func TestHouseDocs(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	readme := read("README.md")
	lines := strings.Split(readme, "\n")
	if len(lines) > 250 {
		t.Errorf("README.md has %d lines, 250 at most", len(lines))
	}
	first := strings.Join(lines[:min(25, len(lines))], "\n")
	for _, command := range []string{"make demo", "make test"} {
		if !strings.Contains(first, command) {
			t.Errorf("the first 25 lines of README.md lack %q", command)
		}
	}
	for _, want := range []string{"git", "make", "gcc", "Go ≥ 1.26", "xcaddy build v2.11.9 --with " + module + "/caddymodule"} {
		if !strings.Contains(readme, want) {
			t.Errorf("README.md lacks %q", want)
		}
	}
	contributing, makefile := read("CONTRIBUTING.md"), read("Makefile")
	for _, gate := range []string{"make test", "make lint"} {
		if !strings.Contains(contributing, gate) {
			t.Errorf("CONTRIBUTING.md lacks %q", gate)
		}
		if !regexp.MustCompile(`(?m)^` + strings.TrimPrefix(gate, "make ") + `:`).MatchString(makefile) {
			t.Errorf("the Makefile has no target for %q", gate)
		}
	}
	design := read("DESIGN.md")
	for _, want := range []string{"Redis", "KMS", "IdP", "app", "loopback caller", "admin API"} {
		if !strings.Contains(strings.ToLower(design), strings.ToLower(want)) {
			t.Errorf("DESIGN.md says nothing about %s", want)
		}
	}
	for _, name := range []string{"CHANGELOG.md", "SECURITY.md", "LICENSE", "Caddyfile.example", "xcaddy.json"} {
		if strings.TrimSpace(read(name)) == "" {
			t.Errorf("%s is empty", name)
		}
	}
}
