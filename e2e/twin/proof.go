package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The proof that the twin sees what it is for: an executable of skiff in which any
// one of some rules, drawn at random, can be taken out by the environment, is run
// once per rule.

// removed is the environment variable that lists the rules that are left out, and
// reachedFile the one that names a file for the numbers of those that objected or filled
// in something.
const (
	removed     = "TWIN_WITHOUT_RULE"
	reachedFile = "TWIN_REACHED"
)

// rule is a place in skiff's source that checks, completes or keeps something.
type rule struct {
	file  string // base name
	line  int
	text  string              // its first line
	guard func(number string) // puts a condition behind it
}

func (r rule) String() string { return fmt.Sprintf("%s:%d %s", r.file, r.line, r.text) }

// sources are parsed files of a package.
type sources struct {
	dir   string
	set   *token.FileSet
	files map[string]*ast.File
}

func readSources(dir string) (*sources, error) {
	s := &sources{dir: dir, set: token.NewFileSet(), files: map[string]*ast.File{}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(s.set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.files[filepath.Base(path)] = file
	}
	return s, nil
}

// rules lists all rules of the sources, in order. A rule is a branch that reports a
// field's error, a statement that adds the errors of another function, or a branch
// that fills in or carries over a value where objects are completed.
func (s *sources) rules() []rule {
	var list []rule
	for _, name := range sortedKeys(s.files) {
		for _, d := range s.files[name].Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				ast.Inspect(f.Body, func(n ast.Node) bool {
					list = append(list, s.rulesAt(name, f.Name.Name, n)...)
					return true
				})
			}
		}
	}
	return list
}

func (s *sources) rulesAt(file, function string, n ast.Node) []rule {
	switch n := n.(type) {
	case *ast.IfStmt:
		if n.Else == nil && (reports(n.Body.List) || completes(function) && assigns(n.Body.List)) {
			return []rule{s.rule(file, n.Cond, func(number string) { n.Cond = behind(n.Cond, number) })}
		}
	case *ast.CaseClause:
		list := s.additions(file, n.Body)
		if len(n.List) == 1 && reports(n.Body) && isCondition(n.List[0]) {
			list = append(list, s.rule(file, n.List[0], func(number string) { n.List[0] = behind(n.List[0], number) }))
		}
		return list
	case *ast.BlockStmt:
		return s.additions(file, n.List)
	}
	return nil
}

// additions are the statements of a list that add the errors of another function.
func (s *sources) additions(file string, list []ast.Stmt) []rule {
	var rules []rule
	for _, statement := range list {
		assign, ok := statement.(*ast.AssignStmt)
		if !ok || assign.Tok != token.ASSIGN || len(assign.Rhs) != 1 {
			continue
		}
		call, ok := assign.Rhs[0].(*ast.CallExpr)
		if !ok || !call.Ellipsis.IsValid() || len(call.Args) != 2 {
			continue
		}
		if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "append" {
			continue
		}
		if target, ok := assign.Lhs[0].(*ast.Ident); !ok || !strings.HasPrefix(target.Name, "err") && !strings.HasPrefix(target.Name, "all") {
			continue
		}
		rules = append(rules, s.rule(file, call.Args[1], func(number string) {
			call.Args[1] = &ast.CallExpr{Fun: ast.NewIdent("ruleErrors"), Args: []ast.Expr{ast.NewIdent(number), call.Args[1]}}
		}))
	}
	return rules
}

// isCondition says whether a case is one of a switch without a value: what is
// compared, negated or asked.
func isCondition(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return slices.Contains([]token.Token{token.EQL, token.NEQ, token.LSS, token.GTR, token.LEQ, token.GEQ, token.LAND, token.LOR}, e.Op)
	case *ast.UnaryExpr:
		return e.Op == token.NOT
	}
	return false
}

func behind(condition ast.Expr, number string) ast.Expr {
	stands := &ast.CallExpr{Fun: ast.NewIdent("ruleStands"), Args: []ast.Expr{ast.NewIdent(number)}}
	return &ast.BinaryExpr{Op: token.LAND, X: &ast.ParenExpr{X: condition}, Y: stands}
}

func (s *sources) rule(file string, e ast.Expr, guard func(string)) rule {
	var b bytes.Buffer
	_ = printer.Fprint(&b, s.set, e) // into memory
	return rule{file: file, line: s.set.Position(e.Pos()).Line, text: strings.Join(strings.Fields(b.String()), " "), guard: guard}
}

// completes says whether a function's name is that of one that fills in values.
func completes(name string) bool {
	lower := strings.ToLower(name)
	return strings.Contains(lower, "default") || strings.Contains(lower, "prepare")
}

// reports says whether a block makes an error of a field, itself and not in a branch
// of its own.
func reports(list []ast.Stmt) bool {
	found := false
	for _, statement := range list {
		if _, branch := statement.(*ast.IfStmt); branch {
			continue
		}
		ast.Inspect(statement, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == "field" &&
				slices.Contains([]string{"Invalid", "Required", "Forbidden", "Duplicate", "NotSupported", "TooLong", "TooMany", "NotFound", "TypeInvalid"}, selector.Sel.Name) {
				found = true
			}
			return true
		})
	}
	return found
}

func assigns(list []ast.Stmt) bool {
	return slices.ContainsFunc(list, func(s ast.Stmt) bool { _, ok := s.(*ast.AssignStmt); return ok })
}

// rulesSource is the file that is added to a package.
const rulesSource = `package %s

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

var (
	rulesRemoved = "," + os.Getenv(%q) + ","
	rulesReached = os.Getenv(%q)
	rulesNoted   sync.Map
)

func ruleStands(n int) bool {
	if _, noted := rulesNoted.LoadOrStore(n, true); rulesReached != "" && !noted {
		f, err := os.OpenFile(rulesReached, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		fmt.Fprintln(f, n)
	}
	return !strings.Contains(rulesRemoved, ","+strconv.Itoa(n)+",")
}

func ruleErrors[T any](n int, errs []T) []T {
	if len(errs) == 0 || ruleStands(n) {
		return errs
	}
	return nil
}
`

// overlay writes the sources with a switch behind every rule, and the file that tells
// Go to build with them.
func (s *sources) overlay(rules []rule, dir string) (string, error) {
	for i, r := range rules {
		r.guard(strconv.Itoa(i))
	}
	replace := map[string]string{}
	add := func(name string, data []byte) error {
		path := filepath.Join(dir, name)
		original, err := filepath.Abs(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		replace[original] = path
		return os.WriteFile(path, data, 0o600)
	}
	for name, file := range s.files {
		var b bytes.Buffer
		if err := printer.Fprint(&b, s.set, file); err != nil {
			return "", err
		}
		if err := add(name, b.Bytes()); err != nil {
			return "", err
		}
	}
	rulesFile := fmt.Sprintf(rulesSource, filepath.Base(s.dir), removed, reachedFile)
	if err := add("zz_rules.go", []byte(rulesFile)); err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, data, 0o600)
}
