"""Classification by description (arXiv 2210.07183): descriptor sets, their texts, the classifier and its reasons."""
