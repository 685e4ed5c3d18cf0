"""Who answers: engines turn prompts into completions."""
