void total(double *x, int *n, double *sum)
{
	for (int i = 0; i < *n; i++)
		*sum += x[i];
}
