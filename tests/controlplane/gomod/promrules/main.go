// Reads groups of alerting rules on stdin as Prometheus itself does, and prints what they ask for: an array of JSON
// objects, one for each selector of a series, with its rule, its metric and its matchers.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

type selector struct {
	Rule     string    `json:"rule"`
	Metric   string    `json:"metric"`
	Matchers []matcher `json:"matchers"`
	Grouping []string  `json:"grouping"` // labels that an aggregation of the rule keeps
}

type matcher struct {
	Label string `json:"label"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

func main() {
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	language := parser.NewParser(parser.Options{})
	groups, problems := rulefmt.Parse(content, false, model.UTF8Validation, language, slog.New(slog.DiscardHandler))
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	found := []selector{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			expression, err := language.ParseExpr(rule.Expr)
			if err != nil {
				log.Fatal(err)
			}
			found = append(found, selectors(rule.Alert+rule.Record, expression)...)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}

func selectors(rule string, expression parser.Expr) []selector {
	found, grouping := []selector{}, []string{}
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.AggregateExpr:
			if !node.Without {
				grouping = append(grouping, node.Grouping...)
			}
		case *parser.VectorSelector:
			found = append(found, describe(rule, node))
		}
		return nil
	})
	for i := range found {
		found[i].Grouping = grouping
	}
	return found
}

func describe(rule string, node *parser.VectorSelector) selector {
	told := selector{Rule: rule, Metric: node.Name, Matchers: []matcher{}}
	for _, each := range node.LabelMatchers {
		if each.Name != labels.MetricName {
			told.Matchers = append(told.Matchers, matcher{each.Name, each.Type.String(), each.Value})
		} else if each.Type == labels.MatchEqual {
			told.Metric = each.Value
		}
	}
	return told
}
