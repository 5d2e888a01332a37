#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *total(PyObject *self, PyObject *arg)
{
	double sum = 0;
	for (Py_ssize_t i = 0; i < PyList_Size(arg); i++)
		sum += PyFloat_AsDouble(PyList_GetItem(arg, i));
	return PyErr_Occurred() ? NULL : PyFloat_FromDouble(sum);
}

static PyMethodDef methods[] = {{"total", total, METH_O, "sum of a list"}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fastsum", NULL, -1, methods};

PyMODINIT_FUNC PyInit__fastsum(void) { return PyModule_Create(&module); }
